//! A plan and its results, for people and for programs.

use std::io;

use countersign_domain::insight::comparison::Change;
use serde::Serialize;

use super::plan::{Action, Item, Plan};
use crate::output::{ListFormat, Output, printable};

/// What became of one item.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    #[serde(flatten)]
    pub(super) item: Item,
    #[serde(rename = "outcome")]
    pub(super) result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

#[derive(Serialize)]
struct PlanJson<'a> {
    changes: bool,
    broadens: bool,
    items: &'a [Item],
}

#[derive(Serialize)]
struct OutcomesJson<'a> {
    failed: usize,
    items: &'a [Outcome],
}

/// Writes a plan.
pub(super) fn plan(plan: &Plan, format: ListFormat, output: &mut Output) -> io::Result<()> {
    if format == ListFormat::Json {
        return output.json(&PlanJson { changes: plan.changes(), broadens: plan.broadens(), items: &plan.items });
    }
    for item in plan.items.iter().filter(|item| item.action != Action::Unchanged) {
        output.line(printable(&title(item)))?;
        if !item.fields.is_empty() {
            output.line(format!("    changes {}", item.fields.join(", ")))?;
        }
        for reason in &item.reasons {
            output.line(printable(&format!("    {}: {reason}", reason.change)))?;
        }
    }
    let [create, update, delete, unchanged] =
        [Action::Create, Action::Update, Action::Delete, Action::Unchanged].map(|action| plan.count(action));
    output.line(format!("{create} to create, {update} to update, {delete} to delete, {unchanged} unchanged."))
}

/// Writes what became of an item, as soon as it is known.
pub(super) fn outcome(outcome: &Outcome, output: &mut Output) -> io::Result<()> {
    let Outcome { item, result, error } = outcome;
    let id = if item.id.is_empty() { String::new() } else { format!(" ({})", item.id) };
    output.line(printable(&format!("{result}: {} {} {}{id}", verb(item.action), item.kind, item.name)))?;
    error.iter().try_for_each(|error| output.line(printable(&format!("    {}", error.replace('\n', "\n    ")))))
}

/// Writes what became of all items.
pub(super) fn outcomes_json(outcomes: &[Outcome], output: &mut Output) -> io::Result<()> {
    let failed = outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
    output.json(&OutcomesJson { failed, items: outcomes })
}

fn title(item: &Item) -> String {
    let sign = match item.action {
        Action::Create => '+',
        Action::Update => '~',
        Action::Delete => '-',
        Action::Unchanged => ' ',
    };
    let id = if item.id.is_empty() || item.id == item.name { String::new() } else { format!(" ({})", item.id) };
    let meaning = match (item.action, item.change) {
        (Action::Update, Change::Unchanged) => ": the same for every token".to_owned(),
        // An issuer that comes or goes, which alone means nothing.
        (_, Change::Unchanged) => String::new(),
        (_, change) => format!(": {change}"),
    };
    format!("{sign} {} {} {}{id}{meaning}", verb(item.action), item.kind, item.name)
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
        Action::Unchanged => "keep",
    }
}
