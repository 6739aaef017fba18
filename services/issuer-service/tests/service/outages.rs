//! What an operator reads in the log while the database is in trouble.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_testkit::wait;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{Ground, workspace};
use crate::keys::set_algorithms;

/// What is logged on this thread, which with a runtime of one thread is everything.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let layer = tracing_subscriber::fmt().with_env_filter(EnvFilter::new("issuer_service=debug")).with_writer(self.clone());
        tracing::subscriber::set_default(layer.with_ansi(false).finish())
    }

    /// How many lines of this level have this text.
    fn lines(&self, level: &str, text: &str) -> usize {
        let log = self.0.lock().unwrap();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(level) && line.contains(text)).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_read_is_told_once_and_once_when_it_is_back() {
    let ground = Ground::postgres().await;
    let service = ground.start().await;
    let log = Log::default();
    let _capturing = log.capture();
    ground.execute("ALTER TABLE issuer_directory RENAME TO directory_away").await;
    wait::until("several polls have failed", async || log.lines("DEBUG", "still cannot follow the database") >= 2).await;
    assert_eq!(log.lines("WARN", "cannot follow the database"), 1);
    assert_eq!(log.lines("INFO", "the database is back"), 0);
    ground.execute("ALTER TABLE directory_away RENAME TO issuer_directory").await;
    wait::until("the database is back", async || log.lines("INFO", "the database is back") > 0).await;
    service.rwx(&workspace(1)).await;
    assert_eq!(log.lines("INFO", "the database is back"), 1);
    service.stop().await;
}

#[tokio::test]
async fn a_database_that_takes_no_keys_is_told_once_and_once_when_it_does() {
    let ground = Ground::postgres().await;
    let service = ground.start().await;
    let [one, other] = [service.rwx(&workspace(1)).await, service.rwx(&workspace(2)).await];
    for issuer in [&one, &other] {
        assert_eq!(service.key_ids(&issuer.issuer_url).await.len(), 1);
    }
    let log = Log::default();
    let _capturing = log.capture();
    ground.execute("ALTER TABLE signing_keys ADD CONSTRAINT no_room CHECK (algorithm <> 'EdDSA')").await;
    for issuer in [&one, &other] {
        set_algorithms(&service, issuer, &["ES256", "EdDSA"]).await;
    }
    wait::until("several attempts have failed", async || log.lines("DEBUG", "still cannot bring") >= 4).await;
    assert_eq!(log.lines("WARN", "cannot bring an issuer's keys up to date"), 1);
    assert_eq!(log.lines("INFO", "up to date again"), 0);
    ground.execute("ALTER TABLE signing_keys DROP CONSTRAINT no_room").await;
    wait::until("the keys are made", async || log.lines("INFO", "up to date again") > 0).await;
    assert_eq!(service.list_keys(&one).await.len(), 2);
    service.stop().await;
}

#[tokio::test]
async fn s56_a_service_starts_on_a_database_that_takes_no_notes_while_the_last_one_is_good() {
    let ground = Ground::postgres().await;
    ground.start().await.stop().await;
    ground.execute("ALTER TABLE served_key_sets ADD CONSTRAINT no_room CHECK (served_until < 0) NOT VALID").await;
    ground.clock.advance(Duration::from_mins(45));
    ground.try_start().await.expect("what was noted is enough").stop().await;
    ground.clock.advance(Duration::from_mins(30));
    let error = ground.try_start().await.expect_err("s56: nothing is handed out that others do not reckon with");
    assert!(format!("{error:#}").contains("for how long key sets are handed out"), "{error:#}");
}
