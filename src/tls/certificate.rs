//! What a certificate says, in RabbitMQ's words: names as RFC 4514 writes them, a validity, and the
//! user whom it logs in.
//!
//! Whether a certificate is to be believed is decided elsewhere, before any of this is asked.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::{Any, Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::time::Time;

use crate::broker::views::CertificateView;
use crate::config::settings::{AlternativeName, CertificateLogin, LoginFrom};

const COMMON_NAME: &str = "2.5.4.3";

/// The attributes of names that have a short form; others are written with their numbers.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("2.5.4.4", "SN"),
    ("2.5.4.42", "GIVENNAME"),
    ("2.5.4.43", "INITIALS"),
    ("2.5.4.44", "GENERATIONQUALIFIER"),
    (COMMON_NAME, "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "TITLE"),
    ("2.5.4.6", "C"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.65", "PSEUDONYM"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// A client's certificate as operators see it. One that cannot be read logs nobody in.
pub(super) fn view(shown: &CertificateDer<'_>, login: &CertificateLogin) -> CertificateView {
    let Ok(certificate) = Certificate::from_der(shown) else {
        return CertificateView::default();
    };
    let about = certificate.tbs_certificate();
    let validity = about.validity();
    CertificateView {
        subject: distinguished_name(about.subject()),
        issuer: distinguished_name(about.issuer()),
        serial_number: decimal(about.serial_number().as_bytes()),
        validity: format!("{} - {}", time(validity.not_before), time(validity.not_after)),
        login: login_name(&certificate, login).filter(|name| !name.is_empty()),
    }
}

/// From when to when a certificate is valid, in seconds of Unix time.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let seconds = |time: Time| time.to_unix_duration().as_secs();
    Some((seconds(validity.not_before), seconds(validity.not_after)))
}

fn login_name(certificate: &Certificate, login: &CertificateLogin) -> Option<String> {
    let about = certificate.tbs_certificate();
    match login.from {
        LoginFrom::DistinguishedName => Some(distinguished_name(about.subject())),
        LoginFrom::CommonName => {
            let attributes = about.subject().iter();
            let names = attributes.filter(|it| it.oid.to_string() == COMMON_NAME);
            let names: Vec<String> = names.map(|it| text(&it.value)).collect();
            (!names.is_empty()).then(|| names.join(","))
        }
        LoginFrom::SubjectAlternativeName => {
            let (_, names) = about.get_extension::<SubjectAltName>().ok()??;
            let of_kind = names.0.iter().filter_map(|name| alternative(name, login.san_type));
            of_kind.into_iter().nth(login.san_index)
        }
    }
}

/// An alternative name, if it is of that kind.
fn alternative(name: &GeneralName, kind: AlternativeName) -> Option<String> {
    match (kind, name) {
        (AlternativeName::Dns, GeneralName::DnsName(name))
        | (AlternativeName::Email, GeneralName::Rfc822Name(name))
        | (AlternativeName::Uri, GeneralName::UniformResourceIdentifier(name)) => {
            Some(name.to_string())
        }
        (AlternativeName::Ip, GeneralName::IpAddress(address)) => {
            let octets = address.as_bytes();
            let four = <[u8; 4]>::try_from(octets).map(|it| Ipv4Addr::from(it).to_string());
            let sixteen = <[u8; 16]>::try_from(octets).map(|it| Ipv6Addr::from(it).to_string());
            four.or(sixteen).ok()
        }
        (AlternativeName::OtherName, GeneralName::OtherName(other)) => {
            // The value is wrapped in a tag of its own.
            let inner = Any::from_der(other.value.value()).ok();
            Some(text(inner.as_ref().unwrap_or(&other.value)))
        }
        _ => None,
    }
}

/// The last part first, as RFC 4514 and RabbitMQ write it.
fn distinguished_name(name: &Name) -> String {
    let parts: Vec<String> = name
        .iter_rdn()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue) -> String {
    let oid = attribute.oid.to_string();
    let short = ATTRIBUTES.iter().find(|(number, _)| *number == oid).map(|(_, short)| *short);
    format!("{}={}", short.unwrap_or(&oid), escaped(&text(&attribute.value)))
}

/// The text of a value, whatever its alphabet; without any, its octets in hexadecimal.
fn text(value: &Any) -> String {
    let octets = value.value();
    match value.tag() {
        Tag::TeletexString => octets.iter().map(|octet| char::from(*octet)).collect(),
        Tag::BmpString => {
            let pairs = octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(pairs).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            String::from_utf8_lossy(octets).into_owned()
        }
        _ => octets.iter().map(|octet| format!("{octet:02X}")).collect(),
    }
}

/// Escaped as RabbitMQ does it: what RFC 4514 wants, and every octet that is not printable ASCII.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, octet) in value.bytes().enumerate() {
        match octet {
            b' ' | b'#' if at == 0 => out.extend(['\\', char::from(octet)]),
            b' ' if at == last => out.push_str("\\ "),
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.extend(['\\', char::from(octet)]);
            }
            0x20..=0x7d => out.push(char::from(octet)),
            _ => out.push_str(&format!("\\{octet:02X}")),
        }
    }
    out
}

fn time(time: Time) -> String {
    time.to_date_time().to_string()
}

/// An unsigned number of any length, in decimal.
fn decimal(octets: &[u8]) -> String {
    let mut digits: Vec<u8> = vec![0];
    for octet in octets {
        let mut carry = u32::from(*octet);
        for digit in &mut digits {
            carry += u32::from(*digit) * 256;
            *digit = u8::try_from(carry % 10).unwrap_or_default();
            carry /= 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).unwrap_or_default());
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType, SerialNumber,
    };

    use super::*;

    fn shown(
        login: CertificateLogin,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateView {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        view(params.self_signed(&key).unwrap().der(), &login)
    }

    fn by(from: LoginFrom) -> CertificateLogin {
        CertificateLogin { from, ..CertificateLogin::default() }
    }

    #[test]
    fn a_name_is_written_from_its_end_with_rabbitmqs_abbreviations() {
        let view = shown(by(LoginFrom::DistinguishedName), |params| {
            params.distinguished_name.push(DnType::CountryName, "DE");
            params.distinguished_name.push(DnType::OrganizationName, "Hasen, Söhne");
            params.distinguished_name.push(DnType::CommonName, "#app+1 ");
            let uid = DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]);
            params.distinguished_name.push(uid, "7");
            let own = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 1]);
            params.distinguished_name.push(own, DnValue::BmpString("häsin".try_into().unwrap()));
        });
        let name = "1.3.6.1.4.1.1=h\\C3\\A4sin,UID=7,CN=\\#app\\+1\\ ,O=Hasen\\, S\\C3\\B6hne,C=DE";
        assert_eq!(view.subject, name);
        assert_eq!(view.issuer, name);
        assert_eq!(view.login.as_deref(), Some(name));
    }

    #[test]
    fn a_common_name_logs_in_as_it_is_and_several_together() {
        let view = shown(by(LoginFrom::CommonName), |params| {
            params.distinguished_name.push(DnType::OrganizationName, "o");
            params.distinguished_name.push(DnType::CommonName, "a,b");
        });
        assert_eq!(view.login.as_deref(), Some("a,b"));
        let nameless = shown(by(LoginFrom::CommonName), |params| {
            params.distinguished_name.push(DnType::OrganizationName, "o");
        });
        assert_eq!(nameless.login, None);
    }

    #[test]
    fn alternative_names_are_counted_among_their_kind() {
        let names = |params: &mut CertificateParams| {
            params.subject_alt_names = vec![
                SanType::DnsName("first.example".try_into().unwrap()),
                SanType::Rfc822Name("who@example".try_into().unwrap()),
                SanType::IpAddress([10, 0, 0, 1].into()),
                SanType::DnsName("second.example".try_into().unwrap()),
                SanType::URI("urn:app:7".try_into().unwrap()),
                SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "upn@example".into())),
            ];
        };
        for (san_type, san_index, wanted) in [
            (AlternativeName::Dns, 0, Some("first.example")),
            (AlternativeName::Dns, 1, Some("second.example")),
            (AlternativeName::Dns, 2, None),
            (AlternativeName::Email, 0, Some("who@example")),
            (AlternativeName::Ip, 0, Some("10.0.0.1")),
            (AlternativeName::Uri, 0, Some("urn:app:7")),
            (AlternativeName::OtherName, 0, Some("upn@example")),
        ] {
            let from = LoginFrom::SubjectAlternativeName;
            let view = shown(CertificateLogin { from, san_type, san_index }, names);
            assert_eq!(view.login.as_deref(), wanted, "{san_type:?} {san_index}");
        }
    }

    #[test]
    fn validity_and_serial_number_are_written_out() {
        let view = shown(CertificateLogin::default(), |params| {
            params.not_before = rcgen::date_time_ymd(2026, 1, 2);
            params.not_after = rcgen::date_time_ymd(2051, 3, 4);
            params.serial_number = Some(SerialNumber::from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
        });
        assert_eq!(view.validity, "2026-01-02T00:00:00Z - 2051-03-04T00:00:00Z");
        assert_eq!(view.serial_number, "4722366482869645213697");
    }

    #[test]
    fn what_is_no_certificate_logs_nobody_in() {
        let rubbish = CertificateDer::from(vec![0x30, 0x80, 1, 2, 3]);
        assert_eq!(view(&rubbish, &CertificateLogin::default()), CertificateView::default());
    }
}
