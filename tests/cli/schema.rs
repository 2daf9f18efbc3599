//! What a document has that its schema does not say. Used by the tests of `mapwal-archive` as well.

use serde_json::Value;

/// What a schema may say; and what says nothing that could be checked.
const KEYWORDS: [&str; 10] =
    ["$ref", "type", "const", "enum", "properties", "required", "items", "minimum", "maximum", "oneOf"];
const NOTES: [&str; 4] = ["description", "title", "$schema", "$defs"];

/// What of `value` is not as `schema`, a part of `root`, has it. Members that it does not name are wrong.
pub(crate) fn complaints(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let wrong = |why: &str| vec![format!("{at}: {why}: {value}")];
    let mut found = Vec::new();
    for (keyword, rule) in schema.as_object().unwrap() {
        found.extend(match keyword.as_str() {
            "$ref" => complaints(root, root.pointer(&rule.as_str().unwrap()[1..]).unwrap(), value, at),
            "type" => {
                let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                let has_one = types.iter().any(|it| is_of_type(value, it.as_str().unwrap()));
                if has_one { Vec::new() } else { wrong("type") }
            }
            "const" if rule != value => wrong("const"),
            "enum" if !rule.as_array().unwrap().contains(value) => wrong("enum"),
            "minimum" if value.as_f64().is_some_and(|it| it < rule.as_f64().unwrap()) => wrong("minimum"),
            "maximum" if value.as_f64().is_some_and(|it| it > rule.as_f64().unwrap()) => wrong("maximum"),
            "oneOf" => {
                let tried: Vec<_> =
                    rule.as_array().unwrap().iter().map(|one| complaints(root, one, value, at)).collect();
                match tried.iter().filter(|one| one.is_empty()).count() {
                    1 => Vec::new(),
                    // The one that comes nearest.
                    _ => tried.into_iter().min_by_key(Vec::len).unwrap(),
                }
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.flat_map(|(index, item)| complaints(root, rule, item, &format!("{at}/{index}"))).collect()
            }
            "required" => {
                let has = |name: &&Value| value.get(name.as_str().unwrap()).is_some();
                rule.as_array()
                    .unwrap()
                    .iter()
                    .filter(|it| !has(it))
                    .flat_map(|name| wrong(&name.to_string()))
                    .collect()
            }
            "properties" => {
                let members = value.as_object().into_iter().flatten();
                let of = |(name, member): (&String, &Value)| match rule.get(name) {
                    Some(rule) => complaints(root, rule, member, &format!("{at}/{name}")),
                    None => vec![format!("{at}/{name}: not in the schema")],
                };
                members.flat_map(of).collect()
            }
            known => {
                assert!(KEYWORDS.contains(&known) || NOTES.contains(&known), "{known} is not checked");
                Vec::new()
            }
        });
    }
    found
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        other => panic!("{other}"),
    }
}
