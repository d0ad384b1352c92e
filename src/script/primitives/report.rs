//! `report::`: what a run measured, shown at its end.

use rhai::{Array, Dynamic, Map, NativeCallContext, plugin::*};
use serde_json::Value;

use super::OrThrow;
use crate::{
    Error, Kind, Result,
    run::Table,
    script::{Host, RhaiResultOf, convert},
};

#[export_module]
pub mod api {
    /// Reports a measured value; a later one of that name replaces it, and `()` takes it back.
    #[rhai_fn(return_raw)]
    pub fn value(ctx: NativeCallContext, name: &str, value: Dynamic) -> RhaiResultOf<()> {
        Host::of(&ctx).run().measure(name, convert::to_json(&value).or_throw(&ctx)?);
        Ok(())
    }

    /// Reports a table of maps, one row each, with a column for each key in alphabetical order; a later table of that
    /// title replaces it.
    #[rhai_fn(return_raw)]
    pub fn table(ctx: NativeCallContext, title: &str, rows: Array) -> RhaiResultOf<()> {
        let rows = maps(rows).or_throw(&ctx)?;
        let mut columns: Vec<_> = rows.iter().flat_map(Map::keys).map(ToString::to_string).collect();
        columns.sort();
        columns.dedup();
        put(&ctx, title, columns, &rows)
    }

    /// Reports a table with these columns in this order.
    #[rhai_fn(name = "table", return_raw)]
    pub fn table_of(ctx: NativeCallContext, title: &str, columns: Array, rows: Array) -> RhaiResultOf<()> {
        let columns = convert::texts(columns).or_throw(&ctx)?;
        let rows = maps(rows).or_throw(&ctx)?;
        put(&ctx, title, columns, &rows)
    }
}

fn maps(rows: Array) -> Result<Vec<Map>> {
    let map = |row: Dynamic| {
        let found = convert::describe(&row);
        let wrong = || Error::new(Kind::Script, format!("report::table: each row must be a map, not {found}"));
        row.flatten().try_cast::<Map>().ok_or_else(wrong)
    };
    rows.into_iter().map(map).collect()
}

fn put(ctx: &NativeCallContext, title: &str, columns: Vec<String>, rows: &[Map]) -> RhaiResultOf<()> {
    let cell = |row: &Map, column: &String| row.get(column.as_str()).map_or(Ok(Value::Null), convert::to_json);
    let line = |row: &Map| columns.iter().map(|column| cell(row, column)).collect::<Result<Vec<_>>>();
    let rows = rows.iter().map(line).collect::<Result<_>>().or_throw(ctx)?;
    Host::of(ctx).run().table(Table { title: title.to_owned(), columns, rows });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::script::{Settings, engine, host::fake};

    #[test]
    fn values_and_tables_are_kept() {
        let (host, _) = fake::host(Settings::default());
        let script = "report::value(\"rows\", 5); report::value(\"rows\", 6); \
                      report::value(\"x\", 1); report::value(\"x\", ()); \
                      report::table(\"t\", [#{b: 1, a: \"x\"}, #{c: true}]); \
                      report::table(\"u\", [\"b\", \"a\"], [#{b: 1, a: \"x\"}]);";
        engine::build(&host).run(script).unwrap();
        let record = serde_json::to_value(host.run().record()).unwrap();
        assert_eq!(record["values"], json!([{"name": "rows", "value": 6}]));
        assert_eq!(
            record["tables"],
            json!([
                {"title": "t", "columns": ["a", "b", "c"], "rows": [["x", 1, null], [null, null, true]]},
                {"title": "u", "columns": ["b", "a"], "rows": [[1, "x"]]}
            ])
        );
    }

    #[test]
    fn a_row_that_is_no_map_is_refused() {
        let (host, _) = fake::host(Settings::default());
        let error = engine::build(&host).run("report::table(\"t\", [5]);").unwrap_err();
        assert!(error.to_string().contains("must be a map, not 5"), "{error}");
    }
}
