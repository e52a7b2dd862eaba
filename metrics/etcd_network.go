package metrics

// What etcd shows of the connections between members. Ids are in hexadecimal.
var (
	KnownPeers        = gauge("etcd_network_known_peers", "Members that this one knows, itself included: 1; 0 once they are removed.", "Local", "Remote")
	ActivePeers       = gauge("etcd_network_active_peers", "Other members that this one can reach: 1, or 0.", "Local", "Remote")
	DisconnectedPeers = counter("etcd_network_disconnected_peers_total", "Times that another member became unreachable.", "Local", "Remote")

	PeerSentBytes        = counter("etcd_network_peer_sent_bytes_total", "Bytes sent to another member, states included.", "To")
	PeerReceivedBytes    = counter("etcd_network_peer_received_bytes_total", "Bytes received from another member, states included.", "From")
	PeerSentFailures     = counter("etcd_network_peer_sent_failures_total", "Messages to another member that were lost on this side.", "To")
	PeerReceivedFailures = counter("etcd_network_peer_received_failures_total", "Messages from another member that could not be taken; 0 stands for senders that are no members.", "From")
	PeerRoundTrip        = histogram("etcd_network_peer_round_trip_time_seconds", "Round trips of probes to another member.", doubling(0.0001, 16), "To")

	SnapshotsSent           = counter("etcd_network_snapshot_send_success", "States that went to another member.", "To")
	SnapshotsSending        = gauge("etcd_network_snapshot_send_inflights_total", "States on their way to another member.", "To")
	SnapshotsSentFailed     = counter("etcd_network_snapshot_send_failures", "States that did not reach another member.", "To")
	SnapshotSendTime        = histogram("etcd_network_snapshot_send_total_duration_seconds", "Sending a state to another member.", doubling(0.1, 10), "To")
	SnapshotsReceived       = counter("etcd_network_snapshot_receive_success", "States that came from another member.", "From")
	SnapshotsReceiving      = gauge("etcd_network_snapshot_receive_inflights_total", "States on their way from another member.", "From")
	SnapshotsReceivedFailed = counter("etcd_network_snapshot_receive_failures", "States from another member that did not arrive.", "From")
	SnapshotReceiveTime     = histogram("etcd_network_snapshot_receive_total_duration_seconds", "Receiving a state from another member.", doubling(0.1, 10), "From")
)
