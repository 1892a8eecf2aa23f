//! The Prometheus text format, version 0.0.4.
//!
//! Each name gets one `# TYPE` and one `# HELP`, then its samples; label values are escaped. The
//! writer checks none of the format's other rules: names come from this crate.

use std::fmt::Write as _;

/// The page's content type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// What a metric's number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
    /// Not said; RabbitMQ's info metrics and alarms.
    Untyped,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Untyped => "untyped",
        }
    }
}

/// A page in the making.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// The finished page.
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Starts a metric. Nothing is written until its first sample.
    pub(super) fn family<'a>(
        &'a mut self,
        prefix: &str,
        name: &str,
        kind: Kind,
        help: &'a str,
    ) -> Family<'a> {
        Family { page: self, name: format!("{prefix}{name}"), kind, help, announced: false }
    }
}

/// One metric's samples.
#[derive(Debug)]
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: String,
    kind: Kind,
    help: &'a str,
    announced: bool,
}

impl Family<'_> {
    /// Writes a sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Number>) {
        self.suffixed("", labels, value);
    }

    /// Writes a sample of a histogram's part, such as `_bucket`.
    pub(super) fn suffixed(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl Into<Number>,
    ) {
        let text = &mut self.page.text;
        if !self.announced {
            self.announced = true;
            let (name, kind) = (&self.name, self.kind.name());
            let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {}", self.help);
        }
        text.push_str(&self.name);
        text.push_str(suffix);
        for (i, (label, value)) in labels.iter().enumerate() {
            text.push(if i == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            escape(text, value);
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = match value.into() {
            Number::Integer(n) => writeln!(text, " {n}"),
            Number::Real(n) => writeln!(text, " {n}"),
        };
    }
}

/// A sample's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// A count.
    Integer(u64),
    /// Anything else.
    Real(f64),
}

impl From<u64> for Number {
    fn from(n: u64) -> Self {
        Self::Integer(n)
    }
}

impl From<f64> for Number {
    fn from(n: f64) -> Self {
        Self::Real(n)
    }
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_announced_once_and_only_with_samples() {
        let mut page = Page::default();
        page.family("p_", "empty", Kind::Gauge, "nothing");
        let mut family = page.family("p_", "x_total", Kind::Counter, "what it is");
        family.sample(&[], 3);
        family.sample(&[("a", "1"), ("b", "2")], 0.5);
        assert_eq!(
            page.finish(),
            "# TYPE p_x_total counter\n# HELP p_x_total what it is\n\
             p_x_total 3\np_x_total{a=\"1\",b=\"2\"} 0.5\n"
        );
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::default();
        page.family("", "x", Kind::Gauge, "h").sample(&[("q", "a\"b\\c\nd")], 1);
        assert!(page.finish().ends_with("x{q=\"a\\\"b\\\\c\\nd\"} 1\n"));
    }
}
