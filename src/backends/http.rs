//! RabbitMQ's HTTP backend protocol: a web service says who may log in and do what.
//!
//! Each question is a form sent to one of four paths; the answer is `allow`, with tags after it
//! where a login is allowed, or `deny`. Anything else, a service that cannot be reached or is too
//! slow among it, is a refusal with a line in the log. What a user may do is asked once per
//! resource and held for [`HttpAuth::answers_hold_ms`]. Passwords go to the service and nowhere
//! else.

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;

use super::{BackendError, https};
use crate::broker::access::{Authority, Backend, Candidate, Outsider, Resource, Right, User};
use crate::config::settings::{HttpAuth, HttpMethod};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A web service that is asked.
#[derive(Debug)]
pub struct HttpBackend {
    service: Arc<Service>,
}

#[derive(Debug)]
struct Service {
    agent: Agent,
    settings: HttpAuth,
}

/// Someone whom the service knows.
#[derive(Debug)]
struct Known {
    service: Arc<Service>,
    name: String,
    /// With blanks in between.
    tags: String,
}

type Form<'f> = Vec<(&'static str, &'f str)>;

impl HttpBackend {
    /// A service at the configured paths.
    ///
    /// # Errors
    /// When the certificates that are to be trusted cannot be read.
    pub fn new(settings: HttpAuth) -> Result<Self, BackendError> {
        let timeout = |ms| Some(Duration::from_millis(ms));
        let tls = https::trusting(settings.cacertfile.as_deref())
            .map_err(|reason| BackendError { key: "auth_http.ssl_options.cacertfile", reason })?;
        let agent = Agent::config_builder()
            .timeout_connect(timeout(settings.connection_timeout_ms))
            .timeout_global(timeout(settings.request_timeout_ms))
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(tls)
            .build()
            .new_agent();
        Ok(Self { service: Arc::new(Service { agent, settings }) })
    }

    fn authority(&self, name: &str, tags: &[String]) -> Arc<dyn Authority> {
        let (service, name) = (Arc::clone(&self.service), name.to_owned());
        Arc::new(Known { service, name, tags: tags.join(" ") })
    }

    /// The tags of whoever is called this and shows this password.
    fn tags(&self, name: &str, password: &[u8]) -> Option<Vec<String>> {
        // The form is text; a password that is none is nobody's.
        let form = vec![("username", name), ("password", str::from_utf8(password).ok()?)];
        let answer = self.service.ask(&self.service.settings.user_path, &form)?;
        let mut words = answer.split_whitespace();
        (words.next() == Some("allow")).then(|| words.map(str::to_owned).collect())
    }
}

impl Backend for HttpBackend {
    fn name(&self) -> &'static str {
        "rabbit_auth_backend_http"
    }

    fn log_in(&self, who: Candidate<'_>, password: &[u8]) -> Option<Outsider> {
        let tags = self.tags(who.name, password)?;
        let authority = self.authority(who.name, &tags);
        Some(Outsider { name: who.name.to_owned(), tags, authority })
    }

    fn vouch(&self, user: &User, password: &[u8]) -> Option<Arc<dyn Authority>> {
        self.tags(&user.name, password).map(|_| self.authority(&user.name, &user.tags))
    }
}

impl Authority for Known {
    fn may_enter(&self, vhost: &str, peer: Option<&str>) -> bool {
        let form = vec![
            ("username", &*self.name),
            ("vhost", vhost),
            ("ip", peer.unwrap_or_default()),
            ("tags", &*self.tags),
        ];
        self.service.allows(&self.service.settings.vhost_path, &form)
    }

    fn allows(&self, right: Right, vhost: &str, resource: Resource<'_>) -> bool {
        let form = vec![
            ("username", &*self.name),
            ("vhost", vhost),
            ("resource", resource.kind()),
            ("name", resource.name()),
            ("permission", right.name()),
            ("tags", &*self.tags),
        ];
        self.service.allows(&self.service.settings.resource_path, &form)
    }

    fn allows_topic(&self, right: Right, vhost: &str, exchange: &str, key: &str) -> bool {
        let form = vec![
            ("username", &*self.name),
            ("vhost", vhost),
            ("resource", "topic"),
            ("name", exchange),
            ("permission", right.name()),
            ("routing_key", key),
            ("variable_map.username", &*self.name),
            ("variable_map.vhost", vhost),
            ("tags", &*self.tags),
        ];
        self.service.allows(&self.service.settings.topic_path, &form)
    }

    fn answers_hold_ms(&self) -> Option<u64> {
        Some(self.service.settings.answers_hold_ms)
    }
}

impl Service {
    fn allows(&self, path: &str, form: &Form<'_>) -> bool {
        let answer = self.ask(path, form);
        answer.is_some_and(|answer| answer.split_whitespace().next() == Some("allow"))
    }

    /// The service's answer, in lower case; `None` when there is none that means anything.
    fn ask(&self, path: &str, form: &Form<'_>) -> Option<String> {
        let answered = match self.settings.method {
            HttpMethod::Post => self.agent.post(path).send_form(form.iter().copied()),
            HttpMethod::Get => self.agent.get(path).query_pairs(form.iter().copied()).call(),
        };
        let read = answered.and_then(|mut answer| {
            let status = answer.status().as_u16();
            let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?;
            Ok((status, body))
        });
        match read {
            Ok((200 | 201, body)) => {
                let answer = body.trim().to_lowercase();
                let is_known = ["allow", "deny"].iter().any(|known| answer.starts_with(known));
                if !is_known {
                    tracing::warn!(path, "an HTTP backend answers neither allow nor deny");
                }
                is_known.then_some(answer)
            }
            Ok((status, _)) => {
                tracing::warn!(path, status, "an HTTP backend refuses to answer");
                None
            }
            Err(error) => {
                tracing::warn!(path, %error, "an HTTP backend cannot be asked");
                None
            }
        }
    }
}
