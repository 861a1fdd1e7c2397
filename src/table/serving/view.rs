//! The view of a name, for engines that read Iceberg's views: it selects from the table of the version that the name shows. In a
//! SQL catalog it turns with the name; behind REST, whose transactions know no views, right after it.

use std::collections::HashMap;

use iceberg::NamespaceIdent;
use iceberg::spec::{Schema, ViewFormatVersion, ViewMetadata, ViewMetadataBuilder, ViewRepresentations, ViewVersion};
use serde_json::json;

use super::Trouble;
use crate::durable;
use crate::error::{Error, Result};
use crate::table::catalog::{Catalog, Table};
use crate::table::name::TableName;
use crate::table::store::{Swapped, View, ViewSwap};
use crate::table::{files, iceberg_error};
use crate::time;

/// The property of a name that names its view.
pub(super) const PROPERTY: &str = "kappa.view";
/// The property of a view that names the name that it is of.
const OF: &str = "kappa.view.of";
/// How often a name may turn while its view is brought up.
const TURNS: usize = 10;

impl Table {
    /// The view of a name, if it has one.
    pub fn view(&self) -> Option<TableName> {
        TableName::parse(self.property(PROPERTY)?, "").ok()
    }
}

/// The view of a name by a pattern such as `{name}__view`, beside it.
///
/// # Errors
/// `Config` for a pattern that does not tell one name from another, or that gives what is no name.
pub fn view_of(name: &TableName, pattern: &str) -> Result<TableName> {
    let wrong = |what: &str| {
        Error::config("view", format!("serving.view is {pattern:?}, {what}")).hint("write {name} once, as in {name}__view")
    };
    if pattern.matches("{name}").count() != 1 || pattern == "{name}" {
        return Err(wrong("which does not make a name of its own for the view of each name"));
    }
    let view = pattern.replace("{name}", name.table());
    if view.contains('.') {
        return Err(wrong("and a view is in the namespace of its name"));
    }
    TableName::parse(&format!("{}.{view}", name.namespace()), "").map_err(|error| wrong("which gives no name").source(error))
}

impl Catalog {
    /// The step of the view of `name`, which may have it already, to the table of a version, written where kappa writes it; none if
    /// it is there already.
    pub(super) fn view_swap(
        &self,
        name: &TableName,
        view: &TableName,
        has_it: bool,
        version: &Table,
        created: &mut Vec<String>,
    ) -> Result<Option<ViewSwap>> {
        let swap = self.next_view(name, view, version, created);
        // A name keeps its view: what to call it is no question any more.
        swap.map_err(|error| {
            if !has_it || error.is_retryable() {
                return error;
            }
            error.hint(format!(
                "{view} is the view of {name}: drop what is there now, or let {name} have none, by removing its property \
                 {PROPERTY} with another tool"
            ))
        })
    }

    fn next_view(
        &self,
        name: &TableName,
        view: &TableName,
        version: &Table,
        created: &mut Vec<String>,
    ) -> Result<Option<ViewSwap>> {
        let now = self.find_view(view)?;
        check_ours(name, view, now.as_ref())?;
        if now.is_none() && self.load(view)?.is_some() {
            return Err(taken(view, "table"));
        }
        let next = next_version(version, self.names_metadata().then(|| self.name()), self.now_ms())?;
        let failed = |error| iceberg_error(&format!("turn view {view}"), error);
        let schema = version.metadata().current_schema().as_ref().clone();
        let (from, base, next) = match now {
            Some(View { metadata, .. }) if is_at(&metadata, &next, &schema) => return Ok(None),
            Some(View { location, metadata }) => {
                let built = metadata.clone().into_builder().set_current_version(next, schema);
                let next = built.and_then(ViewMetadataBuilder::build).map_err(failed)?.metadata;
                (Some(location), Some(Box::new(metadata)), next)
            }
            None => {
                let (uuid, location) = self.new_place(view);
                let properties = HashMap::from([(OF.to_owned(), name.to_string())]);
                let built = ViewMetadataBuilder::new(location, schema, next, ViewFormatVersion::V1, properties)
                    .and_then(|builder| builder.assign_uuid(uuid).build());
                (None, None, built.map_err(failed)?.metadata)
            }
        };
        let to = next_place(&next, from.as_deref());
        if self.names_metadata() {
            created.push(to.clone());
            write(&next, &to)?;
        }
        Ok(Some(ViewSwap { name: view.clone(), from, to, base, next: Box::new(next) }))
    }

    /// Brings the view of a name, if it has one, to what the name shows.
    ///
    /// # Errors
    /// `Refused` if there is something else of that name; those of the catalog.
    pub fn bring_view(&self, name: &TableName) -> Result<()> {
        for _ in 0..TURNS {
            let Some(base) = self.load(name)? else { return Ok(()) };
            let turns = base.turns()?.unwrap_or_default();
            let (Some(view), Some(current)) = (base.view(), turns.current()) else { return Ok(()) };
            let Some(version) = self.load_same(&current.table, current.uuid)? else { return Ok(()) };
            let mut created = Vec::new();
            let Some(swap) = self.view_swap(name, &view, true, &version, &mut created)? else { return Ok(()) };
            match self.swap_with(&[], &[swap], None)? {
                // Behind REST somebody may have turned the name and its view meanwhile: once more looks.
                Swapped::Done => {}
                Swapped::Lost(_) => files::remove_quietly(&created),
                Swapped::Unknown(error) => return Err(error),
            }
        }
        Err(Error::conflict("view_lost", format!("the view of {name} was changed by somebody else each time"))
            .hint("stop other writers of it")
            .retryable(true))
    }

    /// Brings the views of names; those that cannot be brought.
    pub fn bring_views<'a>(&self, names: impl Iterator<Item = &'a TableName>) -> Vec<Trouble> {
        names.filter_map(|name| Some(Trouble { name: name.clone(), error: self.bring_view(name).err()? })).collect()
    }

    /// Refuses a new name where a view of that name is. A server says so itself.
    pub(in crate::table) fn check_no_view(&self, name: &TableName) -> Result<()> {
        if self.names_metadata() && self.find_view(name)?.is_some() { Err(taken(name, "view")) } else { Ok(()) }
    }

    /// What a view selects, in Spark's words.
    #[cfg(test)]
    pub(crate) fn selected(&self, view: &TableName) -> Option<String> {
        let view = self.find_view(view).unwrap()?;
        let versions = serde_json::to_value(view.metadata.current_version().representations()).unwrap();
        Some(versions[0]["sql"].as_str().unwrap().to_owned())
    }

    /// Sets the view of a name to a version, and not the name.
    #[cfg(test)]
    pub(crate) fn set_view(&self, name: &TableName, view: &TableName, version: &Table) {
        let swap = self.view_swap(name, view, false, version, &mut vec![]).unwrap().unwrap();
        assert!(matches!(self.swap_with(&[], &[swap], None).unwrap(), Swapped::Done));
    }
}

fn taken(name: &TableName, by: &str) -> Error {
    Error::refused("name_taken", format!("there is a {by} of the name {name}")).hint("choose another name, or drop it")
}

/// What somebody else has made is not changed.
fn check_ours(name: &TableName, view: &TableName, now: Option<&View>) -> Result<()> {
    match now.map(|now| now.metadata.properties().get(OF)) {
        None => Ok(()),
        Some(Some(of)) if *of == name.to_string() => Ok(()),
        Some(of) => {
            let whose = of.map_or_else(|| "which kappa has not made".to_owned(), |of| format!("which is of the name {of}"));
            Err(Error::refused("foreign_view", format!("there is a view {view}, {whose}"))
                .hint("drop it, or choose another pattern for views: serving.view"))
        }
    }
}

/// Whether a view selects this already.
fn is_at(now: &ViewMetadata, next: &ViewVersion, schema: &Schema) -> bool {
    let current = now.current_version();
    current.representations() == next.representations()
        && current.default_namespace() == next.default_namespace()
        && now.current_schema().as_struct() == schema.as_struct()
}

/// What the view is to select. In a SQL catalog tools must agree on the catalog's name, and Trino wants it; a server has none.
fn next_version(version: &Table, catalog: Option<&str>, now: i64) -> Result<ViewVersion> {
    let (table, schema) = (version.name(), version.metadata().current_schema());
    let select = |quote: char| {
        let quoted = |text: &str| format!("{quote}{}{quote}", text.replace(quote, &format!("{quote}{quote}")));
        let columns: Vec<String> = schema.as_struct().fields().iter().map(|field| quoted(&field.name)).collect();
        format!("SELECT {} FROM {}", columns.join(", "), quoted(table.table()))
    };
    let representations = json!([
        { "type": "sql", "sql": select('`'), "dialect": "spark" },
        { "type": "sql", "sql": select('"'), "dialect": "trino" },
    ]);
    let representations: ViewRepresentations = serde_json::from_value(representations)
        .map_err(|error| Error::internal(format!("a view of {table} cannot be written: {error}")))?;
    let namespace = NamespaceIdent::from_vec(table.namespace().split('.').map(str::to_owned).collect());
    Ok(ViewVersion::builder()
        .with_schema_id(schema.schema_id())
        .with_timestamp_ms(now)
        .with_summary(HashMap::from([("engine-name".to_owned(), "kappa".to_owned())]))
        .with_representations(representations)
        .with_default_catalog(catalog.map(str::to_owned))
        .with_default_namespace(namespace.map_err(|error| iceberg_error("name a namespace", error))?)
        .build())
}

/// The next metadata file of a view.
fn next_place(metadata: &ViewMetadata, from: Option<&str>) -> String {
    let number = from.and_then(|from| files::file_name(from).split('-').next()?.parse::<u64>().ok());
    let number = number.map_or(0, |number| number + 1);
    format!("{}/metadata/{number:05}-{}.metadata.json", metadata.location().trim_end_matches('/'), time::new_uuid())
}

fn write(metadata: &ViewMetadata, to: &str) -> Result<()> {
    let text = serde_json::to_vec(metadata).map_err(|error| Error::internal(format!("a view as JSON: {error}")))?;
    let path = files::path_of(to)?;
    let directory = path.parent().ok_or_else(|| Error::internal("a metadata file without a directory"))?;
    durable::create_directory(directory)?;
    files::write_durable(&path, &text)?;
    durable::sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_of_a_name_stands_beside_it() {
        let name = TableName::parse("a.b.daily", "").unwrap();
        assert_eq!(view_of(&name, "{name}__view").unwrap().to_string(), "a.b.daily__view");
        assert_eq!(view_of(&name, "v_{name}").unwrap().to_string(), "a.b.v_daily");
        for wrong in ["", "view", "{name}", "{name}{name}", "views.{name}", "{name}/..", "{name}; drop", "{name}\u{e9}"] {
            assert_eq!(view_of(&name, wrong).unwrap_err().code(), "view", "{wrong}");
        }
    }
}
