//! The JSON Schema of a configuration, for editors.

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Value, json};

/// The JSON Schema (draft-07) of a configuration that fills a `File`, as indented JSON.
pub fn schema<File: JsonSchema>() -> String {
    let generator = SchemaSettings::draft07().with_transform(Finish).into_generator();
    let schema = generator.into_root_schema_for::<File>();
    format!("{:#}", schema.as_value())
}

/// Adds what the derived schema lacks: `${VAR}` in place of numbers and words, empty mappings, and
/// descriptions without the line breaks of the doc comments.
#[derive(Clone)]
struct Finish;

impl Transform for Finish {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        join_description(schema);
        match schema.get("type").and_then(Value::as_str) {
            Some("integer" | "boolean") => allow_variable(schema),
            Some("string") if schema.get("enum").is_some() => allow_variable(schema),
            // A mapping whose keys are all commented out is null in YAML.
            Some("object") if schema.get("required").is_none() => {
                schema.insert("type".to_owned(), json!(["object", "null"]));
            }
            _ => {}
        }
        if let Some(words) = schema.get_mut("oneOf").and_then(Value::as_array_mut)
            && words.iter().all(|word| word.get("const").is_some())
        {
            words.push(variable());
        }
    }
}

fn join_description(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text =
            text.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
}

/// Lets `${VAR}` stand in place of a number, a boolean or one of a set of words.
fn allow_variable(schema: &mut Schema) {
    let description = schema.remove("description");
    let value = std::mem::take(schema);
    *schema = json_schema!({ "anyOf": [value, variable()] });
    if let Some(description) = description {
        schema.insert("description".to_owned(), description);
    }
}

fn variable() -> Value {
    json!({ "type": "string", "pattern": r"\$\{" })
}
