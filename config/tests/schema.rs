//! The schema that editors use accepts what the reader accepts, and finds what a schema can find.

use std::fs;
use std::path::Path;

use huntaway_config::{EXAMPLE, schema};
use serde_json::Value;

/// Why `value` does not fit `schema`; only what our schema uses of JSON Schema (2020-12), without patterns.
fn misfit(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").expect("all types are in $defs");
        return misfit(root, &root["$defs"][name], value);
    }
    for choices in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[choices].as_array()
            && choices.iter().all(|choice| misfit(root, choice, value).is_some())
        {
            return Some(format!("{value} is none of {choices:?}"));
        }
    }
    let is_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some(other) => panic!("a type that is not expected: {other}"),
        None => true,
    };
    let is_word = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let is_constant = schema.get("const").is_none_or(|constant| constant == value);
    let number = value.as_u64().unwrap_or_default();
    let fits = schema["minimum"].as_u64().is_none_or(|minimum| number >= minimum)
        && schema["maximum"].as_u64().is_none_or(|maximum| number <= maximum);
    if !(is_type && is_word && is_constant && fits) {
        return Some(format!("{value} does not fit {schema}"));
    }
    let item = |item: &Value| misfit(root, &schema["items"], item);
    if schema.get("items").is_some()
        && let Some(misfit) = value.as_array().into_iter().flatten().find_map(item)
    {
        return Some(misfit);
    }
    let object = value.as_object()?;
    let missing = schema["required"].as_array().into_iter().flatten();
    let mut missing = missing.filter(|key| !object.contains_key(key.as_str().unwrap_or_default()));
    if let Some(missing) = missing.next() {
        return Some(format!("no {missing}"));
    }
    object.iter().find_map(|(key, value)| match schema["properties"].get(key) {
        Some(schema) => misfit(root, schema, value),
        None => (schema["additionalProperties"] == false).then(|| format!("unknown {key}")),
    })
}

fn misfit_of(yaml: &str) -> Option<String> {
    let schema: Value = serde_json::from_str(&schema()).expect("the test's files can be used");
    let value: Value = serde_saphyr::from_str(yaml).expect("the test's files can be used");
    misfit(&schema, &schema, &value)
}

#[test]
fn the_example_fits_the_schema() {
    assert_eq!(misfit_of(EXAMPLE), None);
}

#[test]
fn doubtful_files_fit_the_schema() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/warned");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            assert_eq!(misfit_of(&fs::read_to_string(&path).unwrap()), None, "{}", path.display());
        }
    }
}

#[test]
fn editors_find_slips() {
    for (right, wrong) in [
        ("vdi: root", "vid: root"),
        ("thin: true", "thin: maybe"),
        ("cache: writeback", "cache: none"),
        ("block_size: 512", "block_size: 513"),
        ("copies: 1", "copies: 3"),
        ("lun: 0", "lun: 256"),
        ("name: storage-1", "zone: rack-b"),
        ("user: backup, ", ""),
        ("digests: allowed", "digests:"),
    ] {
        assert!(EXAMPLE.contains(right), "{right}");
        let wrong_text = EXAMPLE.replace("  zone: rack-a", "").replacen(right, wrong, 1);
        assert!(misfit_of(&wrong_text).is_some(), "{wrong}");
    }
}
