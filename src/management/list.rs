//! Lists as a query wants them: filtered by name, sorted, cut into pages, with some columns only.
//!
//! Without `page` a list is a bare array, with it an object that tells how many there are.

use std::cmp::Ordering;

use regex::bytes::RegexBuilder;
use serde_json::{Map, Value as Json, json};

use super::reply::Refusal;
use super::request::parameter;

const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 500;
/// Further columns are not looked at.
const COLUMNS_MAX: usize = 100;
const PATTERN_BYTES_MAX: usize = 1024;
/// What a compiled pattern may occupy, in bytes.
const PATTERN_COMPILED_BYTES_MAX: usize = 1024 * 1024;

type Query = [(String, String)];

/// Applies `name`, `use_regex`, `sort`, `sort_reverse`, `page`, `page_size` and `columns`.
pub(super) fn shape(mut items: Vec<Json>, query: &Query) -> Result<Json, Refusal> {
    let total = items.len();
    let page = Page::of(query)?;
    if page.is_some() {
        filter(&mut items, query)?;
    }
    sort(&mut items, query);
    let Some(page) = page else {
        return Ok(Json::Array(project(items, query)));
    };
    let filtered = items.len();
    let pages = filtered.div_ceil(page.size);
    if page.number > pages.max(1) {
        let reason = format!(
            "Page number out of range: page number {}, page count {pages}, page size {}",
            page.number, page.size
        );
        return Err(Refusal::invalid("page_out_of_range", reason));
    }
    let items: Vec<Json> =
        items.into_iter().skip((page.number - 1) * page.size).take(page.size).collect();
    Ok(json!({
        "total_count": total,
        "filtered_count": filtered,
        "item_count": items.len(),
        "page": page.number,
        "page_size": page.size,
        "page_count": pages,
        "items": project(items, query),
    }))
}

/// Keeps of an object the columns that the query names; all when it names none.
pub(super) fn project_one(item: Json, query: &Query) -> Json {
    project(vec![item], query).pop().unwrap_or_default()
}

struct Page {
    number: usize,
    size: usize,
}

impl Page {
    fn of(query: &Query) -> Result<Option<Self>, Refusal> {
        let Some(number) = parameter(query, "page") else { return Ok(None) };
        let size = parameter(query, "page_size");
        let parsed = (
            number.parse().ok().filter(|n| *n > 0),
            size.map_or(Ok(PAGE_SIZE_DEFAULT), str::parse),
        );
        match parsed {
            (Some(number), Ok(size)) if (1..=PAGE_SIZE_MAX).contains(&size) => {
                Ok(Some(Self { number, size }))
            }
            _ => {
                let size = size.unwrap_or("undefined");
                let reason = format!(
                    "Invalid pagination parameters: page number {number}, page size {size}"
                );
                Err(Refusal::invalid("invalid_pagination_parameters", reason))
            }
        }
    }
}

fn filter(items: &mut Vec<Json>, query: &Query) -> Result<(), Refusal> {
    let wanted = parameter(query, "name").unwrap_or_default();
    if wanted.is_empty() {
        return Ok(());
    }
    if parameter(query, "use_regex") != Some("true") {
        let wanted = wanted.to_lowercase();
        items.retain(|item| name_of(item).to_lowercase().contains(&wanted));
        return Ok(());
    }
    let refused = |_| Refusal::bad_request(format!("Invalid regular expression: {wanted}"));
    if wanted.len() > PATTERN_BYTES_MAX {
        return Err(refused(()));
    }
    // On bytes, as in RabbitMQ: letters beyond ASCII match as they are written.
    let pattern = RegexBuilder::new(wanted)
        .unicode(false)
        .case_insensitive(true)
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .build()
        .map_err(|_| refused(()))?;
    items.retain(|item| pattern.is_match(name_of(item).as_bytes()));
    Ok(())
}

fn name_of(item: &Json) -> &str {
    item.get("name").and_then(Json::as_str).unwrap_or_default()
}

fn sort(items: &mut [Json], query: &Query) {
    if let Some(path) = parameter(query, "sort") {
        items.sort_by(|a, b| compare(at(a, path), at(b, path)));
    }
    if parameter(query, "sort_reverse") == Some("true") {
        items.reverse();
    }
}

/// The value at a path such as `message_stats.publish_details.rate`.
fn at<'a>(item: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(item, |value, name| value.get(name))
}

/// Numbers by value, then texts, then the rest as it is written. What is missing counts as 0.
fn compare(a: Option<&Json>, b: Option<&Json>) -> Ordering {
    let rank = |value: &Json| match value {
        Json::Number(_) => 0,
        Json::String(_) => 1,
        _ => 2,
    };
    let zero = json!(0);
    let (a, b) = (a.unwrap_or(&zero), b.unwrap_or(&zero));
    rank(a).cmp(&rank(b)).then_with(|| match (a, b) {
        (Json::Number(a), Json::Number(b)) => {
            a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default())
        }
        (Json::String(a), Json::String(b)) => a.cmp(b),
        _ => a.to_string().cmp(&b.to_string()),
    })
}

fn project(items: Vec<Json>, query: &Query) -> Vec<Json> {
    let Some(columns) = parameter(query, "columns").filter(|columns| !columns.is_empty()) else {
        return items;
    };
    let keep = |item: &Json| {
        let mut kept = Json::Object(Map::new());
        for column in columns.split(',').take(COLUMNS_MAX) {
            if let Some(value) = at(item, column) {
                put(&mut kept, column, value.clone());
            }
        }
        kept
    };
    items.iter().map(keep).collect()
}

fn put(into: &mut Json, path: &str, value: Json) {
    let (name, rest) = path.split_once('.').map_or((path, None), |(n, r)| (n, Some(r)));
    let Json::Object(fields) = into else { return };
    match rest {
        None => {
            fields.insert(name.to_owned(), value);
        }
        Some(rest) => {
            put(fields.entry(name).or_insert_with(|| Json::Object(Map::new())), rest, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn items() -> Vec<Json> {
        vec![
            json!({"name": "b", "size": 1, "stats": {"rate": 3.5, "sum": 1}}),
            json!({"name": "a", "size": 10}),
            json!({"name": "Ab", "size": 2, "stats": {"rate": 0.5, "sum": 2}}),
        ]
    }

    fn names(shaped: &Json) -> Vec<&str> {
        let items = shaped.get("items").unwrap_or(shaped);
        items.as_array().expect("a list").iter().map(name_of).collect()
    }

    #[test]
    fn without_a_page_a_list_is_an_array_in_its_own_order() {
        assert_eq!(names(&shape(items(), &[]).expect("fine")), ["b", "a", "Ab"]);
    }

    #[test]
    fn lists_are_sorted_by_number_by_text_and_backwards() {
        let sorted = |pairs: &[(&str, &str)]| shape(items(), &query(pairs)).expect("fine");
        assert_eq!(names(&sorted(&[("sort", "size")])), ["b", "Ab", "a"]);
        assert_eq!(names(&sorted(&[("sort", "name")])), ["Ab", "a", "b"]);
        assert_eq!(
            names(&sorted(&[("sort", "stats.rate"), ("sort_reverse", "true")])),
            ["b", "Ab", "a"]
        );
    }

    #[test]
    fn pages_count_what_there_is_and_what_was_found() {
        let page = shape(items(), &query(&[("page", "2"), ("page_size", "1"), ("name", "b")]));
        assert_eq!(
            page.expect("fine"),
            json!({
                "total_count": 3, "filtered_count": 2, "item_count": 1, "page": 2,
                "page_size": 1, "page_count": 2,
                "items": [{"name": "Ab", "size": 2, "stats": {"rate": 0.5, "sum": 2}}],
            })
        );
    }

    #[test]
    fn a_name_may_be_a_pattern() {
        let wanted = query(&[("page", "1"), ("name", "^a"), ("use_regex", "true")]);
        assert_eq!(names(&shape(items(), &wanted).expect("fine")), ["a", "Ab"]);
        let accented = query(&[("page", "1"), ("name", "^É.$"), ("use_regex", "true")]);
        let items_with_accent = vec![json!({"name": "Éa"}), json!({"name": "ab"})];
        assert_eq!(names(&shape(items_with_accent, &accented).expect("fine")), ["Éa"]);
        let broken = query(&[("page", "1"), ("name", "("), ("use_regex", "true")]);
        assert_eq!(shape(items(), &broken).expect_err("refused").error, "bad_request");
    }

    #[test]
    fn pages_that_cannot_be_are_refused() {
        let error =
            |pairs: &[(&str, &str)]| shape(items(), &query(pairs)).expect_err("refused").error;
        assert_eq!(error(&[("page", "0")]), "invalid_pagination_parameters");
        assert_eq!(error(&[("page", "x")]), "invalid_pagination_parameters");
        assert_eq!(error(&[("page", "1"), ("page_size", "501")]), "invalid_pagination_parameters");
        assert_eq!(error(&[("page", "3"), ("page_size", "2")]), "page_out_of_range");
        let empty = shape(Vec::new(), &query(&[("page", "1")])).expect("an empty first page");
        assert_eq!(empty["page_count"], 0);
    }

    #[test]
    fn columns_keep_their_nesting() {
        let shaped = shape(items(), &query(&[("columns", "name,stats.rate")])).expect("fine");
        assert_eq!(
            shaped,
            json!([{"name": "b", "stats": {"rate": 3.5}}, {"name": "a"},
                   {"name": "Ab", "stats": {"rate": 0.5}}])
        );
    }
}
