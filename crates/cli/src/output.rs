//! Where the program writes: results to stdout, messages to stderr. Nothing else in the workspace prints.

use countersign_domain::values::text::is_hidden;
use std::io::{self, IsTerminal, Write};

use countersign_runtime::disclosure::Concealed;
use serde::Serialize;

/// The two streams of the program.
pub(crate) struct Output {
    results: Box<dyn Write + Send>,
    messages: Box<dyn Write + Send>,
    /// Whether a person reads the results.
    pub(crate) is_terminal: bool,
    /// What no message shows.
    concealed: Concealed,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ListFormat {
    /// Columns, for people.
    Table,
    /// One JSON array.
    Json,
}

/// How something nested is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TreeFormat {
    /// Indented lines, for people.
    Tree,
    /// One JSON object.
    Json,
}

impl Output {
    /// The streams of this process.
    pub(crate) fn of_process() -> Self {
        Self {
            results: Box::new(io::stdout()),
            messages: Box::new(io::stderr()),
            is_terminal: io::stdout().is_terminal(),
            concealed: Concealed::default(),
        }
    }

    /// Keeps these values out of every message, besides those of before.
    pub(crate) fn conceal(&mut self, values: Concealed) {
        self.concealed.extend(values);
    }

    /// Writes one line of the result.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        self.raw(&format!("{}\n", line.as_ref()))
    }

    /// Writes a part of the result as it is.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub(crate) fn raw(&mut self, text: &str) -> io::Result<()> {
        let written = self.results.write_all(text.as_bytes()).and_then(|()| self.results.flush());
        written.map_err(|error| io::Error::new(error.kind(), ResultNotWritten(error)))
    }

    /// Writes a value as indented JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.line(serde_json::to_string_pretty(value)?)
    }

    /// Tells the person at the terminal. Never part of the result, and never a reason to fail.
    pub(crate) fn message(&mut self, message: impl AsRef<str>) {
        let _ = writeln!(self.messages, "{}", printable(&self.concealed.remove_from(message.as_ref())));
    }

    /// Writes rows in aligned columns.
    pub(crate) fn table<const N: usize>(&mut self, header: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
        self.raw(&table(header, rows))
    }
}

/// Standard output does not take the result.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result to standard output")]
struct ResultNotWritten(#[source] io::Error);

/// Text from elsewhere, without the characters that would steer a terminal or that a reader would not see.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|letter| if is_hidden(letter) && letter != '\n' && letter != '\t' { '\u{fffd}' } else { letter }).collect()
}

fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let cell = |text: &str| printable(&text.replace(['\n', '\t'], " "));
    let mut lines = vec![header.map(cell)];
    lines.extend(rows.iter().map(|row| row.each_ref().map(|text| cell(if text.is_empty() { "-" } else { text }))));
    let mut widths = [0; N];
    for line in &lines {
        for (width, text) in widths.iter_mut().zip(line) {
            *width = (*width).max(text.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what is written.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Captured {
        results: Buffer,
        messages: Buffer,
    }

    #[derive(Debug, Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        /// Streams that end here, and are not a terminal.
        pub(crate) fn output(&self) -> Output {
            Output {
                results: Box::new(self.results.clone()),
                messages: Box::new(self.messages.clone()),
                is_terminal: false,
                concealed: Concealed::default(),
            }
        }

        /// Streams of which nobody reads the results.
        pub(crate) fn closed() -> Output {
            let (reader, writer) = io::pipe().unwrap();
            drop(reader);
            Output { results: Box::new(writer), ..Self::default().output() }
        }

        /// What was written as result.
        pub(crate) fn results(&self) -> String {
            self.results.text()
        }

        /// What was written as messages.
        pub(crate) fn messages(&self) -> String {
            self.messages.text()
        }
    }

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_space() {
        let rows = [["a".to_owned(), "bbb".to_owned()], ["aaaa".to_owned(), String::new()]];
        assert_eq!(table(["ID", "N"], &rows), "ID    N\na     bbb\naaaa  -\n");
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\u{7}\nc\u{202e}\u{200b}\u{9b}"), "a\u{fffd}[31mb\u{fffd}\nc\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(table(["N"], &[["x\ny".to_owned()]]), "N\nx y\n");
    }
}
