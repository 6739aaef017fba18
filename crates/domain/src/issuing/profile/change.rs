//! What a change of an issuer's profile means for the subjects that relying parties know.

use super::Profile;
use super::form::SubjectForm;
use crate::trust::cel::CelExpression;

/// A change of the subjects of an issuer, by the templates before and after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectChange {
    /// The templates of the former profile, in order.
    pub from: Vec<String>,
    /// Those of the new one. The same, where it is what stands in them that is computed otherwise.
    pub to: Vec<String>,
}

impl Profile {
    /// How subjects change for a run that has one under this profile, when `next` takes its place; `None` when no run's does, but
    /// that `next` may refuse some. Errs on the side of a change: what decides a subject is compared as it is written.
    pub fn subject_change(&self, next: &Self) -> Option<SubjectChange> {
        let (own, others) = (&self.checked().forms, &next.checked().forms);
        // Forms behind these are for runs that had no subject so far.
        let keeps_forms = own.len() <= others.len() && own.iter().zip(others).all(|(one, other)| one.writes_as(other));
        let keeps_values = self.checked().declared.deciding(own.iter().flat_map(SubjectForm::reads)).into_iter().all(|name| {
            let (one, other) = (&self.checked().declared, &next.checked().declared);
            one.rule(name) == other.rule(name)
        });
        let texts = |profile: &Self| profile.subject_templates().collect();
        (!keeps_forms || !keeps_values).then(|| SubjectChange { from: texts(self), to: texts(next) })
    }
}

impl SubjectForm {
    /// Whether both give a run the same subject, if its values are the same.
    fn writes_as(&self, other: &Self) -> bool {
        let Self { id, template, delimiters: _, condition } = self;
        (id, template, condition) == (&other.id, &other.template, &other.condition)
    }

    /// The names that decide whether it is used and what it renders.
    fn reads(&self) -> impl Iterator<Item = &str> {
        let conditions = self.condition.iter().flat_map(CelExpression::attributes).map(AsRef::as_ref);
        self.template.names().chain(conditions)
    }
}
