//! Views behind the REST protocol. There is no compare-and-swap on what a view selects: whoever replaces it looks at it again.

use iceberg::spec::ViewMetadata;
use serde_json::{Value, json};

use super::client::Answer;
use super::{Rest, refs};
use crate::error::{Error, Result};
use crate::table::name::TableName;
use crate::table::store::{Swapped, View, ViewSwap};

impl Rest {
    /// A view as it is now.
    pub(in crate::table) async fn view(&self, name: &TableName) -> Result<Option<View>> {
        if !self.views {
            return Err(Error::refused("no_views", format!("the catalog has no views, such as {name} is to be"))
                .hint("leave --view and the setting serving.view out"));
        }
        let path = self.view_path(name);
        let answer = self.http.get("look up a view", &refs(&path), &[]).await.found()?;
        answer.map(|answer| view(name, answer)).transpose()
    }

    /// Makes or replaces a view.
    pub(in crate::table) async fn swap_view(&self, swap: &ViewSwap) -> Result<Swapped> {
        let path = self.view_path(&swap.name);
        let (path, body) = match &swap.base {
            Some(base) => (path.as_slice(), replacement(base, &swap.next)),
            None => (path.get(..3).unwrap_or_default(), creation(&swap.name, &swap.next)),
        };
        match self.http.post("turn a view", &refs(path), &body).await {
            Answer::Ok(_) => Ok(Swapped::Done),
            Answer::Missing | Answer::Conflict(_) => Ok(Swapped::Lost(swap.name.clone())),
            Answer::Refused(error) => Err(error),
            Answer::Unknown(error) => Ok(Swapped::Unknown(error)),
        }
    }

    fn view_path(&self, name: &TableName) -> Vec<String> {
        let levels: Vec<&str> = name.namespace().split('.').collect();
        ["namespaces", &levels.join(&self.separator), "views", name.table()].map(str::to_owned).to_vec()
    }
}

fn creation(name: &TableName, view: &ViewMetadata) -> Value {
    json!({
        "name": name.table(),
        "location": view.location(),
        "schema": view.current_schema(),
        "view-version": view.current_version(),
        "properties": view.properties(),
    })
}

/// The server numbers what it has not yet.
fn replacement(base: &ViewMetadata, next: &ViewMetadata) -> Value {
    const LAST_ADDED: i32 = -1;
    let (schema, mut version, mut updates) = (next.current_schema(), next.current_version().as_ref().clone(), Vec::new());
    if base.schema_by_id(schema.schema_id()).is_none() {
        updates.push(json!({ "action": "add-schema", "schema": schema, "last-column-id": schema.highest_field_id() }));
        version = version.with_schema_id(LAST_ADDED);
    }
    let mut current = version.version_id();
    if base.version_by_id(current).is_none() {
        updates.push(json!({ "action": "add-view-version", "view-version": version }));
        current = LAST_ADDED;
    }
    updates.push(json!({ "action": "set-current-view-version", "view-version-id": current }));
    json!({ "requirements": [{ "type": "assert-view-uuid", "uuid": next.uuid() }], "updates": updates })
}

fn view(name: &TableName, mut answer: Value) -> Result<View> {
    let metadata = answer.get_mut("metadata").map(Value::take).unwrap_or_default();
    let metadata = serde_json::from_value(metadata).map_err(|error| {
        Error::corruption("view_metadata", format!("the catalog's answer about view {name}: {error}")).source(error)
    })?;
    let location = answer.get("metadata-location").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(View { location, metadata })
}
