package metrics

import "github.com/prometheus/client_golang/prometheus"

// What etcd shows of a member, its part in raft and its requests.
var (
	HasLeader     = gauge("etcd_server_has_leader", "Whether a leader is known: 1, or 0.")
	IsLeader      = gauge("etcd_server_is_leader", "Whether this member leads: 1, or 0.")
	IsLearner     = gauge("etcd_server_is_learner", "Whether this member has no vote: 1, or 0.")
	LeaderChanges = counter("etcd_server_leader_changes_seen_total", "Leaders that this member has seen come up.")
	ServerID      = gauge("etcd_server_id", "Id of this member in hexadecimal. Always 1.", "server_id")
	Feature       = gauge("etcd_server_feature_enabled", "Whether a feature gate is on: 1, or 0.", "name", "stage")

	Committed        = gauge("etcd_server_proposals_committed_total", "Index of the last entry that is known to be committed.")
	Applied          = gauge("etcd_server_proposals_applied_total", "Index of the last entry that this member has applied.")
	ProposalsPending = gauge("etcd_server_proposals_pending", "Requests of this member that wait until their entry is applied.")
	ProposalsFailed  = counter("etcd_server_proposals_failed_total", "Requests of this member of which no outcome was seen: refused by a full queue, late, or given up by the client.")
	LateHeartbeats   = counter("etcd_server_heartbeat_send_failures_total", "Heartbeats that this leader sent more than two intervals after the one before.")

	SlowApplies     = counter("etcd_server_slow_apply_total", "Runs of committed entries that took longer to apply than the warning duration.")
	SlowReadIndexes = counter("etcd_server_slow_read_indexes_total", "Read indexes that came too late or not at all.")
	ReadsFailed     = counter("etcd_server_read_indexes_failed_total", "Read indexes that could not be had because the leader changed.")

	PromoteFailures  = counter("etcd_server_learner_promote_failures", "Promotions of learners that failed while this member led, by reason.", "Reason")
	PromoteSuccesses = counter("etcd_server_learner_promote_successes", "Learners promoted while this member led.")

	RequestDuration = histogram("etcd_server_request_duration_seconds", "From a request's arrival in the member to its outcome, waiting for the cluster included.", doubling(0.001, 14), "type", "success")
	ApplyDuration   = histogram("etcd_server_apply_duration_seconds", "Applying one committed entry, without the commit of the batch that it is part of.", doubling(0.0001, 20), "version", "op", "success")
	RangeDuration   = histogram("etcd_server_range_duration_seconds", "Reading a range in the store, without waiting for what was committed before.", doubling(0.0001, 20), "success")

	QuotaBytes     = gauge("etcd_server_quota_backend_bytes", "Bound of the bytes of all revisions that are kept.")
	Alarms         = gauge("etcd_debugging_server_alarms", "Alarms in force, by the member that they name. Always 1.", "server_id", "alarm_type")
	ClusterVersion = gauge("etcd_cluster_version", "Version of etcd that the cluster has agreed on, major and minor. Always 1.", "cluster_version")
	AuthRevision   = gauge("etcd_debugging_auth_revision", "Revision of the users, roles and permissions.")

	HealthSuccesses = counter("etcd_server_health_success", "Answers of /health that said true.")
	HealthFailures  = counter("etcd_server_health_failures", "Answers of /health that said false.")
	HealthCheck     = gauge("etcd_server_healthcheck", "Last outcome of a check of /livez and /readyz: 1, or 0.", "type", "name")
	HealthChecks    = counter("etcd_server_healthchecks_total", "Outcomes of the checks of /livez and /readyz.", "type", "name", "status")

	LeasesGranted = counter("etcd_debugging_lease_granted_total", "Leases that this member has seen granted.")
	LeasesRevoked = counter("etcd_debugging_lease_revoked_total", "Leases that this member has seen revoked, by clients or because they were over.")
	LeasesRenewed = counter("etcd_debugging_lease_renewed_total", "Renewals of leases by this member while it led.")
	LeaseTTL      = histogram("etcd_debugging_lease_ttl_total", "Whole lives of leases granted, in seconds.", doubling(1, 24))
	LeasesExpired = counter("etcd_debugging_server_lease_expired_total", "Leases that this member proposed to revoke, while it led, because they were over.")

	SnapshotApplying = gauge("etcd_server_snapshot_apply_in_progress_total", "Whether a state received from another member is being put in force: 1, or 0.")
)

// What etcd shows of calls. The library that etcd uses has the same names, types, labels and buckets.
var (
	CallsStarted     = counter("grpc_server_started_total", "Calls begun.", "grpc_type", "grpc_service", "grpc_method")
	CallsHandled     = counter("grpc_server_handled_total", "Calls ended, by code, whatever it says.", "grpc_type", "grpc_service", "grpc_method", "grpc_code")
	MessagesReceived = counter("grpc_server_msg_received_total", "Messages received in calls.", "grpc_type", "grpc_service", "grpc_method")
	MessagesSent     = counter("grpc_server_msg_sent_total", "Messages sent in calls.", "grpc_type", "grpc_service", "grpc_method")
	CallDuration     = histogram("grpc_server_handling_seconds", "From a call's beginning to its end, in the server.", prometheus.DefBuckets, "grpc_type", "grpc_service", "grpc_method")

	ClientRequests      = counter("etcd_server_client_requests_total", "Calls by kind and by the version of the API that the client says it speaks.", "type", "client_api_version")
	ClientBytesSent     = counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of the messages sent to clients.")
	ClientBytesReceived = counter("etcd_network_client_grpc_received_bytes_total", "Bytes of the messages received from clients.")
	StreamFailures      = counter("etcd_network_server_stream_failures_total", "Streams of watches and keepalives that ended by a failure that was not the client's leaving.", "Type", "API")

	WatchSend         = histogram("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", "Sending one message with events to a watching client.", doubling(0.001, 14))
	WatchSendPerEvent = histogram("etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", "Sending one message with events to a watching client, divided by their number.", doubling(0.001, 14))
	WatchSendControl  = histogram("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", "Sending one message that says that a watch was made or ended.", doubling(0.001, 14))
	WatchSendProgress = histogram("etcd_debugging_server_watch_send_loop_progress_duration_seconds", "Sending one message that says how far a watch is.", doubling(0.001, 14))
)
