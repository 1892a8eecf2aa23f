//! Names with `*` in them, which stands for any text.

/// Whether a name fits a pattern.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_text() {
        let fitting = [
            ("", ""),
            ("mail", "mail"),
            ("*", ""),
            ("*", "mail"),
            ("mail.*", "mail."),
            ("mail.*", "mail.out.now"),
            ("*.example.com", "a.example.com"),
            ("m*l", "mail"),
            ("a*b*c", "a-b-b-c"),
            ("a**c", "abc"),
        ];
        for (pattern, name) in fitting {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn everything_else_must_be_there_and_once_only() {
        let others = [
            ("", "mail"),
            ("mail", "mailbox"),
            ("mail", "email"),
            ("mail.*", "mail"),
            ("*.example.com", "example.com"),
            ("*.example.com", "a.example.com.evil.test"),
            ("ab*ba", "aba"),
            ("a*b*c", "a-c"),
        ];
        for (pattern, name) in others {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
