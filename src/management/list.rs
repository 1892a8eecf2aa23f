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

/// A list before a query has shaped it.
pub(super) enum Items {
    /// Items that are there.
    Made(Vec<Json>),
    /// Items that are made when they are shown: of long lists usually one page is.
    Named {
        /// The items' names, in order.
        names: Vec<String>,
        /// Makes the item at a position.
        make: Box<dyn Fn(usize) -> Json>,
    },
}

/// Applies `name`, `use_regex`, `sort`, `sort_reverse`, `page`, `page_size` and `columns`.
pub(super) fn shape(items: Items, query: &Query) -> Result<Json, Refusal> {
    let Some(page) = Page::of(query)? else {
        let mut items = all(items);
        sort(&mut items, query);
        return Ok(Json::Array(project(items, query)));
    };
    let wanted = name_filter(query)?;
    let by_name = matches!(parameter(query, "sort"), None | Some("name"));
    match items {
        Items::Named { names, make } if by_name => {
            let mut kept: Vec<usize> = (0..names.len()).collect();
            let name = |i: usize| names.get(i).map_or("", String::as_str);
            kept.retain(|i| wanted(name(*i)));
            if parameter(query, "sort").is_some() {
                kept.sort_by(|a, b| name(*a).cmp(name(*b)));
            }
            if parameter(query, "sort_reverse") == Some("true") {
                kept.reverse();
            }
            page.cut(names.len(), kept, make, query)
        }
        items => {
            let mut kept = all(items);
            let total = kept.len();
            kept.retain(|item| wanted(name_of(item)));
            sort(&mut kept, query);
            page.cut(total, kept, |item| item, query)
        }
    }
}

fn all(items: Items) -> Vec<Json> {
    match items {
        Items::Made(items) => items,
        Items::Named { names, make } => (0..names.len()).map(make).collect(),
    }
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

    /// The page of what was kept of `total` items.
    fn cut<T>(
        &self,
        total: usize,
        kept: Vec<T>,
        make: impl Fn(T) -> Json,
        query: &Query,
    ) -> Result<Json, Refusal> {
        let filtered = kept.len();
        let pages = filtered.div_ceil(self.size);
        if self.number > pages.max(1) {
            let reason = format!(
                "Page number out of range: page number {}, page count {pages}, page size {}",
                self.number, self.size
            );
            return Err(Refusal::invalid("page_out_of_range", reason));
        }
        let before = (self.number - 1).saturating_mul(self.size);
        let items: Vec<Json> = kept.into_iter().skip(before).take(self.size).map(make).collect();
        Ok(json!({
            "total_count": total,
            "filtered_count": filtered,
            "item_count": items.len(),
            "page": self.number,
            "page_size": self.size,
            "page_count": pages,
            "items": project(items, query),
        }))
    }
}

type NameFilter = Box<dyn Fn(&str) -> bool>;

/// Whether a name is among those that the query asks for.
fn name_filter(query: &Query) -> Result<NameFilter, Refusal> {
    let wanted = parameter(query, "name").unwrap_or_default();
    if wanted.is_empty() {
        return Ok(Box::new(|_| true));
    }
    if parameter(query, "use_regex") != Some("true") {
        let wanted = wanted.to_lowercase();
        return Ok(Box::new(move |name| name.to_lowercase().contains(&wanted)));
    }
    let refused = || Refusal::bad_request(format!("Invalid regular expression: {wanted}"));
    if wanted.len() > PATTERN_BYTES_MAX {
        return Err(refused());
    }
    // On bytes, as in RabbitMQ: letters beyond ASCII match as they are written.
    let pattern = RegexBuilder::new(wanted)
        .unicode(false)
        .case_insensitive(true)
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .build()
        .map_err(|_| refused())?;
    Ok(Box::new(move |name| pattern.is_match(name.as_bytes())))
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

    fn items() -> Items {
        Items::Made(made())
    }

    fn made() -> Vec<Json> {
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
        let items_with_accent = Items::Made(vec![json!({"name": "Éa"}), json!({"name": "ab"})]);
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
        let empty =
            shape(Items::Made(Vec::new()), &query(&[("page", "1")])).expect("an empty first page");
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

    #[test]
    fn items_made_on_demand_give_the_same_pages_and_only_those_shown_are_made() {
        use std::cell::RefCell;
        use std::rc::Rc;
        let cases: [(&[(&str, &str)], usize); 5] = [
            (&[("page", "1"), ("page_size", "2")], 2),
            (&[("page", "1"), ("page_size", "1"), ("sort", "name"), ("sort_reverse", "true")], 1),
            (&[("page", "1"), ("page_size", "1"), ("name", "b"), ("columns", "name")], 1),
            // What is sorted by must be made first.
            (&[("page", "1"), ("page_size", "1"), ("sort", "size")], 3),
            (&[("sort", "size")], 3),
        ];
        for (pairs, count) in cases {
            let asked = Rc::new(RefCell::new(0));
            let log = Rc::clone(&asked);
            let make = move |i: usize| {
                *log.borrow_mut() += 1;
                made().swap_remove(i)
            };
            let names = made().iter().map(|item| name_of(item).to_owned()).collect();
            let lazy = shape(Items::Named { names, make: Box::new(make) }, &query(pairs));
            assert_eq!(lazy, shape(items(), &query(pairs)), "{pairs:?}");
            assert_eq!(*asked.borrow(), count, "{pairs:?}");
        }
    }
}
