"""Celery's settings that this package accepts and does not heed, so that nobody takes them for mistakes."""

from __future__ import annotations

_NEW_SPELLING = """
    beat_cron_starting_deadline beat_enable_remote_control beat_remote_control_max_tick_age beat_schedule_filename
    beat_scheduler beat_sync_every broker_channel_error_retry
    broker_connection_max_retries broker_connection_retry broker_connection_retry_on_startup
    broker_failover_strategy broker_heartbeat broker_heartbeat_checkrate broker_host broker_login_method
    broker_native_delayed_delivery_queue_type broker_password broker_pool_acquire_timeout broker_pool_limit
    broker_port broker_read_url broker_transport broker_user broker_vhost broker_write_url
    cache_backend cache_backend_options control_exchange control_queue_durable control_queue_exclusive
    control_queue_expires control_queue_ttl database_create_tables_at_setup database_engine_callback
    database_engine_options database_short_lived_sessions database_table_names database_table_schemas database_url
    enable_utc event_exchange event_queue_durable event_queue_exclusive event_queue_expires event_queue_prefix
    event_queue_ttl event_serializer redis_backend_credential_provider redis_backend_health_check_interval
    redis_client_name redis_db redis_host redis_max_connections redis_password redis_port
    redis_retry_on_timeout redis_socket_connect_timeout redis_socket_keepalive redis_socket_timeout redis_username
    result_backend_always_retry result_backend_base_sleep_between_retries_ms result_backend_max_retries
    result_backend_max_sleep_between_retries_ms result_backend_thread_safe
    result_cache_max result_chord_expires result_chord_join_timeout result_chord_retry_interval result_compression
    result_exchange result_exchange_type result_failure_expires result_persistent security_cert_store
    security_certificate security_digest security_key security_key_password task_acks_on_failure
    task_acks_on_failure_or_timeout task_acks_on_timeout task_allow_error_cb_on_chord_header
    task_create_missing_queue_exchange_type task_create_missing_queue_type task_default_delivery_mode
    task_default_exchange task_default_exchange_type task_default_queue_type task_default_routing_key task_protocol
    task_queue_max_priority task_reject_on_worker_lost task_remote_tracebacks task_repr_maxlevels
    task_retry_on_worker_lost task_send_sent_event worker_agent worker_autoscaler
    worker_cancel_long_running_tasks_on_connection_loss worker_consumer worker_deduplicate_successful_tasks
    worker_detect_quorum_queues worker_direct worker_disable_prefetch worker_enable_prefetch_count_reduction
    worker_enable_remote_control worker_enable_soft_shutdown_on_idle worker_eta_task_limit worker_log_datefmt
    worker_lost_wait worker_pool_putlocks worker_pool_restarts worker_pool_start_method worker_prefetch_multiplier
    worker_proc_alive_timeout worker_send_task_events worker_soft_shutdown_timeout worker_state_db
    worker_task_log_datefmt worker_timer worker_timer_precision
"""
# The names that Celery 3 had for some of them.
_OLD_SPELLING = """
    CELERYBEAT_CRON_STARTING_DEADLINE CELERYBEAT_ENABLE_REMOTE_CONTROL CELERYBEAT_REMOTE_CONTROL_MAX_TICK_AGE
    CELERYBEAT_SCHEDULER CELERYBEAT_SCHEDULE_FILENAME CELERYBEAT_SYNC_EVERY CELERYD_AGENT CELERYD_AUTOSCALER
    CELERYD_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS
    CELERYD_CONSUMER CELERYD_DEDUPLICATE_SUCCESSFUL_TASKS CELERYD_DETECT_QUORUM_QUEUES CELERYD_DISABLE_PREFETCH
    CELERYD_ENABLE_PREFETCH_COUNT_REDUCTION CELERYD_ENABLE_SOFT_SHUTDOWN_ON_IDLE CELERYD_ETA_TASK_LIMIT
    CELERYD_LOG_DATEFMT CELERYD_POOL_PUTLOCKS CELERYD_POOL_RESTARTS CELERYD_POOL_START_METHOD
    CELERYD_PREFETCH_MULTIPLIER CELERYD_PROC_ALIVE_TIMEOUT CELERYD_SOFT_SHUTDOWN_TIMEOUT CELERYD_STATE_DB
    CELERYD_TASK_LOG_DATEFMT CELERYD_TIMER CELERYD_TIMER_PRECISION CELERYD_WORKER_LOST_WAIT CELERY_ACKS_ON_FAILURE
    CELERY_ACKS_ON_FAILURE_OR_TIMEOUT CELERY_ACKS_ON_TIMEOUT CELERY_ALLOW_ERROR_CB_ON_CHORD_HEADER
    CELERY_CREATE_MISSING_QUEUE_EXCHANGE_TYPE CELERY_CREATE_MISSING_QUEUE_TYPE CELERY_DEFAULT_DELIVERY_MODE
    CELERY_DEFAULT_EXCHANGE CELERY_DEFAULT_EXCHANGE_TYPE CELERY_DEFAULT_QUEUE_TYPE CELERY_DEFAULT_ROUTING_KEY
    CELERY_ENABLE_REMOTE_CONTROL CELERY_MAX_CACHED_RESULTS CELERY_QUEUE_MAX_PRIORITY
    CELERY_REJECT_ON_WORKER_LOST CELERY_REMOTE_TRACEBACKS CELERY_REPR_MAXLEVELS CELERY_RESULT_DBURI
    CELERY_RESULT_DB_SHORT_LIVED_SESSIONS CELERY_RESULT_DB_TABLENAMES CELERY_RESULT_ENGINE_OPTIONS
    CELERY_RETRY_ON_WORKER_LOST CELERY_SEND_EVENTS CELERY_SEND_TASK_SENT_EVENT
"""
_NAMES = frozenset(_NEW_SPELLING.split())
_OLD_NAMES = frozenset(_OLD_SPELLING.split())
# Result stores that Celery has and we do not: all their settings begin with the store's name.
_STORES = (
    "arangodb_", "azureblockblob_", "cassandra_", "cosmosdbsql_", "couchbase_", "elasticsearch_", "gcs_", "mongodb_",
    "s3_",
)  # fmt: skip


def why_without_effect(name: str) -> str | None:
    """Return why a setting of Celery's does nothing here; None if Celery does not have it, or if it is one of ours.

    Args:
        name: as Celery spells it (``worker_prefetch_multiplier``, with ``CELERY_`` or not), or an old name.
    """
    plain = name.lower().removeprefix("celery_")
    if name.upper() not in _OLD_NAMES and plain not in _NAMES and not plain.startswith(_STORES):
        return None
    if plain.endswith("beat_cron_starting_deadline"):
        return "write grace, seconds after which a missed run is left out, into the entries that it is for"
    if plain.startswith(("beat_", "celerybeat_")):
        return "beat keeps what it knows with the broker, and always heeds the schedule in the database, too"
    if plain == "enable_utc":
        return "times in messages are always in UTC (CELERY_TIMEZONE is the zone of times without one)"
    return "this is a setting of Celery's that has no effect here"
