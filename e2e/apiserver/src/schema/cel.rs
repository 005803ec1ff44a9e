//! The rules of a definition (`x-kubernetes-validations`), compiled once for each of its versions.

use std::sync::Mutex;

use kube_cel::{CompiledSchema, RootContext, Validator, compile_schema};
use serde_json::Value;

use crate::status::FieldError;

/// Compiled rules of one version of a definition.
pub struct Rules {
    compiled: CompiledSchema,
    validator: Mutex<Validator>,
    root: RootContext,
}

impl Rules {
    /// Compiles the rules of a schema; the errors name the rules that do not compile.
    pub fn compile(schema: &Value, group: &str, version: &str, kind: &str) -> Result<Self, Vec<String>> {
        let compiled = compile_schema(schema);
        let mut errors = Vec::new();
        collect(&compiled, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let root = RootContext {
            api_version: if group.is_empty() { version.into() } else { format!("{group}/{version}") },
            api_group: group.into(),
            kind: kind.into(),
        };
        Ok(Self { compiled, validator: Mutex::new(Validator::new()), root })
    }

    /// The rules that an object breaks; transition rules see the old object.
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let validator = self.validator.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let result = validator.validate_compiled_with_context(&self.compiled, object, old, Some(&self.root));
        let Err(errors) = result else { return Vec::new() };
        errors
            .into_vec()
            .into_iter()
            .map(|e| {
                let field = if e.field_path.is_empty() { "<nil>".to_owned() } else { e.field_path.clone() };
                let (reason, prefix) = match e.reason.as_deref() {
                    Some("FieldValueRequired") => ("FieldValueRequired", "Required value: "),
                    Some("FieldValueForbidden") => ("FieldValueForbidden", "Forbidden: "),
                    Some("FieldValueDuplicate") => ("FieldValueDuplicate", "Duplicate value: "),
                    _ => ("FieldValueInvalid", "Invalid value: "),
                };
                FieldError::rule(field, reason, format!("{prefix}{}", e.message))
            })
            .collect()
    }
}

fn collect(schema: &CompiledSchema, errors: &mut Vec<String>) {
    errors.extend(schema.compilation_errors().iter().map(ToString::to_string));
    schema.properties.values().for_each(|s| collect(s, errors));
    schema.items.iter().for_each(|s| collect(s, errors));
    schema.additional_properties.iter().for_each(|s| collect(s, errors));
    schema.all_of.iter().chain(&schema.any_of).chain(&schema.one_of).for_each(|s| collect(s, errors));
}
