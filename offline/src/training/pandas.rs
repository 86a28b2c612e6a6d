//! The metadata that pandas writes into a Parquet file: its index, and the types of the columns.
//!
//! A training set has the rows of its labels, so a data frame that is read from it gets the index of the labels, and
//! joins with it row by row. The columns that were added are described like the others.

use arrow::datatypes::{DataType, Field};
use serde_json::{Value as Json, json};

/// The key of the schema's metadata.
pub(super) const KEY: &str = "pandas";

/// The metadata of a training set from that of its labels; none where it would be wrong. `files` is how many files
/// the labels are of, and `added` the columns behind theirs.
pub(super) fn extended(metadata: &str, files: usize, added: &[Field]) -> Option<String> {
    let mut pandas: Json = serde_json::from_str(metadata).ok()?;
    // A range has as many rows as the one file that it was written with.
    let has_range = pandas.get("index_columns")?.as_array()?.iter().any(Json::is_object);
    if has_range && files > 1 {
        return None;
    }
    let columns = pandas.get_mut("columns")?.as_array_mut()?;
    columns.extend(added.iter().map(column));
    Some(pandas.to_string())
}

fn column(field: &Field) -> Json {
    let (pandas, numpy) = match field.data_type() {
        DataType::Boolean => ("bool", "object"),
        DataType::Int64 => ("int64", "int64"),
        DataType::Float64 => ("float64", "float64"),
        DataType::Utf8 => ("unicode", "object"),
        DataType::Binary => ("bytes", "object"),
        DataType::Timestamp(..) => ("datetimetz", "datetime64[ns]"),
        _ => ("object", "object"),
    };
    let metadata = match field.data_type() {
        DataType::Timestamp(_, zone) => json!({"timezone": zone.as_deref().unwrap_or("UTC")}),
        _ => Json::Null,
    };
    let name = field.name();
    json!({
        "name": name, "field_name": name, "pandas_type": pandas, "numpy_type": numpy, "metadata": metadata,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_added_to_what_pandas_knows() {
        let field = Field::new("v.n", DataType::Int64, true);
        let range =
            r#"{"index_columns":[{"kind":"range","start":2,"stop":4,"step":1}],"columns":[{"name":"y"}]}"#;
        let extended_one = extended(range, 1, std::slice::from_ref(&field)).unwrap();
        let found: Json = serde_json::from_str(&extended_one).unwrap();
        assert_eq!(found["index_columns"][0]["start"], 2);
        assert_eq!(found["columns"][0]["name"], "y");
        assert_eq!(found["columns"][1]["name"], "v.n");
        assert_eq!(extended(range, 2, std::slice::from_ref(&field)), None);
        let stored = r#"{"index_columns":["__index_level_0__"],"columns":[]}"#;
        assert!(extended(stored, 2, &[field]).is_some());
        assert_eq!(extended("no JSON", 1, &[]), None);
    }
}
