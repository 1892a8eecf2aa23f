//! RabbitMQ's keys without effect here: the harmless ones and those we must refuse.
//! Generated from `spec/config.toml` by `UPDATE_SPEC=1 cargo test config`.

use super::load::Listing;

/// Refused: ignoring them would be unsafe.
#[rustfmt::skip]
pub(super) const REFUSED: Listing = &[
    (
        "TLS is not available",
        &[
            "listeners.ssl.$name",
            "management.ssl.port",
            "management.ssl.ip",
            "prometheus.ssl.port",
            "prometheus.ssl.ip",
            "log.syslog.ssl_options.*",
        ],
    ),
    (
        "only the internal backend is available",
        &[
            "auth_backends.$num.authn",
            "auth_backends.$num.authz",
            "http_dispatch.auth_backends.*",
        ],
    ),
    (
        "definitions cannot be imported yet; without them users and queues would be missing",
        &[
            "load_definitions",
            "management.load_definitions",
            "definitions.*",
        ],
    ),
    (
        "clustering is not available; the nodes would run as separate brokers",
        &[
            "cluster_formation.peer_discovery_backend",
            "cluster_formation.classic_config.nodes.$node",
            "cluster_formation.dns.hostname",
        ],
    ),
    (
        "the limits that this policy sets would not be enforced",
        &[
            "default_policies.operator.*",
            "default_limits.vhosts.*",
            "credential_validator.min_length",
            "credential_validator.regexp",
            "runtime_parameters.limits.$category",
        ],
    ),
    (
        "only default_user is available",
        &[
            "default_users.*",
        ],
    ),
    (
        "anonymous logins take no password here",
        &[
            "anonymous_login_pass",
        ],
    ),
    (
        "messages would go without the headers that it adds",
        &[
            "message_interceptors.*",
            "channel_interceptor.priorities.$name",
        ],
    ),
    (
        "OAuth 2 is not available",
        &[
            "management.oauth_enabled",
            "management.oauth_disable_basic_auth",
        ],
    ),
    (
        "the changes that it forbids would be allowed",
        &[
            "management.restrictions.*",
            "exchange_types.local_random.enabled",
            "queue_types.classic.enabled",
            "queue_types.quorum.enabled",
        ],
    ),
];

/// Accepted with a warning.
#[rustfmt::skip]
pub(super) const IGNORED: Listing = &[
    (
        "there is no Erlang runtime here to tune",
        &[
            "num_acceptors.tcp",
            "num_acceptors.ssl",
            "socket_writer.gc_threshold",
            "erlang.*",
            "hipe_compile",
            "delegate_count",
            "default_worker_pool_size",
            "background_gc_enabled",
            "background_gc_target_interval",
            "sysmon_handler.*",
            "net_ticktime",
            "distribution.*",
            "vm_memory_calculation_strategy",
            "memory_monitor_interval",
            "log.summarize_process_state",
            "log.error_logger_format_depth",
            "management.delegate_count",
            "ranch_connection_max",
            "metadata_store.*",
            "mnesia_table_loading_retry_timeout",
            "mnesia_table_loading_retry_limit",
            "raft.*",
            "prevent_startup_if_node_was_reset",
        ],
    ),
    (
        "without a TLS listener it is never used",
        &[
            "ssl_options",
            "ssl_options.*",
            "ssl_handshake_timeout",
            "ssl_allow_poodle_attack",
            "ssl_cert_login_from",
            "ssl_cert_login_san_type",
            "ssl_cert_login_san_index",
            "management.ssl.*",
            "management.listener.ssl_opts",
            "management.listener.ssl_opts.*",
            "prometheus.ssl.*",
            "amqp_client.ssl_options",
            "amqp_client.ssl_options.*",
            "amqp10_client.ssl_options",
            "amqp10_client.ssl_options.*",
            "trust_store.*",
        ],
    ),
    (
        "without the backend it belongs to it is never used",
        &[
            "auth_http.*",
            "auth_ldap.*",
            "auth_oauth2.*",
            "auth_cache.*",
            "management.oauth_provider_url",
            "management.oauth_client_id",
            "management.oauth_client_secret",
            "management.oauth_response_type",
            "management.oauth_metadata_url",
            "management.oauth_authorization_endpoint_params.*",
            "management.oauth_token_endpoint_params.*",
            "management.oauth_scopes",
            "management.oauth_initiated_logon_type",
            "management.oauth_resource_servers.*",
            "management.credential_encryption_secret",
        ],
    ),
    (
        "the plugin it belongs to is not available",
        &[
            "mqtt.*",
            "stomp.*",
            "web_mqtt.*",
            "web_stomp.*",
            "stream.*",
            "shovel.*",
            "federation.*",
            "tracing.*",
            "event_exchange.*",
            "aws.*",
            "session_max_per_connection",
            "link_max_per_session",
            "queue_types.stream.enabled",
        ],
    ),
    (
        "a single node has no cluster to tune",
        &[
            "cluster_formation.*",
            "cluster_partition_handling",
            "cluster_partition_handling.*",
            "cluster_keepalive_interval",
            "cluster_tags.$tag",
            "node_tags.$tag",
            "mirroring_sync_batch_size",
            "mirroring_sync_max_throughput",
            "queue_leader_locator",
            "queue_master_locator",
            "quorum_queue.*",
        ],
    ),
    (
        "the store has other settings, under leveret.store",
        &[
            "classic_queue.default_version",
            "queue_index_embed_msgs_below",
            "message_store_shutdown_timeout",
            "vm_memory_high_watermark_paging_ratio",
            "vhost_restart_strategy",
        ],
    ),
    (
        "statistics are always on and are made when they are asked for",
        &[
            "collect_statistics",
            "collect_statistics_interval",
            "management.rates_mode",
            "management.sample_retention_policies.*",
            "management.disable_stats",
            "management.enable_queue_totals",
            "management.db_cache_multiplier",
            "management_agent.*",
            "prometheus.filter_aggregated_queue_metrics_pattern",
        ],
    ),
    (
        "there is no web interface yet",
        &[
            "management.cors.*",
            "management.cors.allow_origins",
            "management.csp.policy",
            "management.hsts.policy",
            "management.headers.*",
            "management.login_session_timeout",
            "management.http.hide_allow_header",
            "management.definitions.require_json_extension",
            "management.require_auth_for_api_reference",
        ],
    ),
    (
        "the HTTP server's timeouts are fixed",
        &[
            "management.tcp.compress",
            "management.tcp.idle_timeout",
            "management.tcp.inactivity_timeout",
            "management.tcp.request_timeout",
            "management.tcp.shutdown_timeout",
            "management.tcp.max_keepalive",
            "management.listener.server.*",
            "prometheus.tcp.compress",
            "prometheus.tcp.idle_timeout",
            "prometheus.tcp.inactivity_timeout",
            "prometheus.tcp.request_timeout",
            "prometheus.tcp.shutdown_timeout",
            "prometheus.tcp.max_keepalive",
            "management.http_log_dir",
            "http_dispatch.access_log_dir",
        ],
    ),
    (
        "this output, format or category of the log is not available",
        &[
            "log.exchange",
            "log.exchange.*",
            "log.journald",
            "log.journald.*",
            "log.syslog",
            "log.syslog.*",
            "log.console.use_colors",
            "log.console.color_esc_seqs.*",
            "log.console.formatter.*",
            "log.file.formatter.*",
            "log.file.rotation.*",
            "log.connection.*",
            "log.channel.*",
            "log.queue.*",
            "log.default.*",
            "log.mirroring.*",
            "log.federation.*",
            "log.upgrade.*",
            "log.user.*",
            "log.ra.*",
            "motd_file",
        ],
    ),
    (
        "peers are shown by address",
        &[
            "reverse_dns_lookups",
        ],
    ),
    (
        "deprecated features stay available",
        &[
            "deprecated_features.permit.$name",
        ],
    ),
    (
        "it would change nothing that a client can see",
        &[
            "tcp_listen_options",
            "tcp_listen_options.*",
            "consumer_disconnected_timeout",
        ],
    ),
];
