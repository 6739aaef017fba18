//! Definitions of profiles. What is wrong with one is for the domain to say: the wire can hold nothing that it cannot read.

use countersign_domain::issuing::profile::{AttributeDefinition, ClaimDefinition, ProfileDefinition, SubjectFormDefinition};

use crate::issuer_v1 as wire;
use crate::issuer_v1::profile_claim::Source;

impl From<wire::ProfileDefinition> for ProfileDefinition {
    fn from(definition: wire::ProfileDefinition) -> Self {
        let wire::ProfileDefinition {
            attributes,
            derived,
            subject_forms,
            claims,
            audience,
            audience_as_list,
            not_before,
            back_dating_seconds,
            default_token_seconds,
            max_token_seconds,
        } = definition;
        Self {
            attributes: attributes.into_iter().map(|(name, attribute)| (name, attribute.into())).collect(),
            derived: derived.into_iter().collect(),
            subject_forms: subject_forms.into_iter().map(Into::into).collect(),
            claims: claims.into_iter().map(|(name, claim)| (name, claim.into())).collect(),
            audience,
            audience_as_list,
            not_before,
            back_dating_seconds,
            default_token_seconds,
            max_token_seconds,
        }
    }
}

impl From<ProfileDefinition> for wire::ProfileDefinition {
    fn from(definition: ProfileDefinition) -> Self {
        let ProfileDefinition {
            attributes,
            derived,
            subject_forms,
            claims,
            audience,
            audience_as_list,
            not_before,
            back_dating_seconds,
            default_token_seconds,
            max_token_seconds,
        } = definition;
        Self {
            attributes: attributes.into_iter().map(|(name, attribute)| (name, attribute.into())).collect(),
            derived: derived.into_iter().collect(),
            subject_forms: subject_forms.into_iter().map(Into::into).collect(),
            claims: claims.into_iter().map(|(name, claim)| (name, claim.into())).collect(),
            audience,
            audience_as_list,
            not_before,
            back_dating_seconds,
            default_token_seconds,
            max_token_seconds,
        }
    }
}

impl From<wire::ProfileAttribute> for AttributeDefinition {
    fn from(attribute: wire::ProfileAttribute) -> Self {
        let wire::ProfileAttribute { description, kind, required, allowed_values, pattern, characters, default } = attribute;
        Self { description, kind, required, allowed_values, pattern, characters, default }
    }
}

impl From<AttributeDefinition> for wire::ProfileAttribute {
    fn from(attribute: AttributeDefinition) -> Self {
        let AttributeDefinition { description, kind, required, allowed_values, pattern, characters, default } = attribute;
        Self { description, kind, required, allowed_values, pattern, characters, default }
    }
}

impl From<wire::SubjectForm> for SubjectFormDefinition {
    fn from(form: wire::SubjectForm) -> Self {
        let wire::SubjectForm { id, template, delimiters, condition } = form;
        Self { id, template, delimiters, condition }
    }
}

impl From<SubjectFormDefinition> for wire::SubjectForm {
    fn from(form: SubjectFormDefinition) -> Self {
        let SubjectFormDefinition { id, template, delimiters, condition } = form;
        Self { id, template, delimiters, condition }
    }
}

impl From<wire::ProfileClaim> for ClaimDefinition {
    fn from(claim: wire::ProfileClaim) -> Self {
        match claim.source {
            Some(Source::Attribute(name)) => Self::Attribute(name),
            Some(Source::Template(text)) => Self::Template(text),
            Some(Source::Expression(source)) => Self::Expression(source),
            // Refused, as nothing is an attribute of no name.
            None => Self::Attribute(String::new()),
        }
    }
}

impl From<ClaimDefinition> for wire::ProfileClaim {
    fn from(claim: ClaimDefinition) -> Self {
        let source = match claim {
            ClaimDefinition::Attribute(name) => Source::Attribute(name),
            ClaimDefinition::Template(text) => Source::Template(text),
            ClaimDefinition::Expression(source) => Source::Expression(source),
        };
        Self { source: Some(source) }
    }
}

#[cfg(test)]
mod tests {
    use countersign_domain::issuing::profile::Profile;

    use super::*;

    #[test]
    fn definitions_survive_a_round_trip() {
        let mut definitions: Vec<_> = Profile::built_in().map(|profile| profile.definition().clone()).collect();
        let every_field = r#"
            attributes.a = { description = "d", kind = "text", required = true, allowed_values = ["b"], pattern = "b*" }
            attributes.c = { characters = "label", default = "'c'" }
            derived.d = "attribute.a"
            subject_forms = [{ id = "f", template = "{a}", delimiters = ":", condition = "true" }]
            claims = { one = { attribute = "a" }, two = { template = "{a}" }, three = { expression = "1" } }
            audience = "{issuer_host}"
            audience_as_list = true
            not_before = "back_dated"
            back_dating_seconds = 60
            default_token_seconds = 120
            max_token_seconds = 240
        "#;
        definitions.push(ProfileDefinition::from_toml(every_field).unwrap());
        for definition in definitions {
            let wire = wire::ProfileDefinition::from(definition.clone());
            assert_eq!(ProfileDefinition::from(wire), definition);
        }
    }
}
