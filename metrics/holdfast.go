package metrics

// What only Holdfast shows. docs/metrics.md explains each.
var (
	CallsUnderWay = gauge("holdfast_calls_under_way", "Calls being served, of the kinds that are bounded.", "class")
	CallsRefused  = counter("holdfast_refused_calls_total", "Calls refused because too many were under way.", "class")

	Leases  = gauge("holdfast_leases", "Leases there are.")
	DiskLow = gauge("holdfast_disk_low", "Whether so little is free on a disk that writes are refused: 1, or 0.")

	TLSEnd      = gauge("holdfast_tls_end_timestamp_seconds", "When a certificate or a list of revoked certificates in force ends, in seconds since 1970; the first to end of a file and subject.", "flag", "subject")
	TLSReloads  = counter("holdfast_tls_reloads_total", "Changes of files of TLS that took effect while running.", "side")
	TLSFailures = counter("holdfast_tls_failed_handshakes_total", "Handshakes of others that failed.", "side")

	ProposalsQueued      = gauge("holdfast_proposals_queued", "Requests that wait for a leader or for room in the raft log.")
	ProposalsQueuedBytes = gauge("holdfast_proposals_queued_bytes", "Bytes of the requests that wait for a leader or for room in the raft log.")
	ReplicaStalled       = gauge("holdfast_replica_stalled", "Whether log or store have had work for an election timeout and not moved: 1, or 0.")
	FollowerLag          = gauge("holdfast_follower_lag_entries", "Entries of this leader's log that another member is not known to hold.", "To")
	FollowerActive       = gauge("holdfast_follower_active", "Whether this leader has heard of another member within the last election timeout: 1, or 0.", "To")
	PeerClockSkew        = gauge("holdfast_peer_clock_skew_seconds", "How far this member's clock is ahead of another's.", "To")

	LogSegments = gauge("holdfast_raft_log_segments", "Files of the raft log.")
	LogEntries  = gauge("holdfast_raft_log_entries", "Entries kept in the raft log.")
	LogWritten  = counter("holdfast_raft_log_written_entries_total", "Entries written to the raft log.")
	LogWrites   = counter("holdfast_raft_log_writes_total", "Writes to the raft log, each of all entries that waited.")
	LogSyncs    = counter("holdfast_raft_log_syncs_total", "Syncs of the raft log.")

	StoreTables            = gauge("holdfast_store_tables", "Tables of the store.")
	StoreTableBytes        = gauge("holdfast_store_table_bytes", "Bytes of the tables of the store.")
	StoreMemTableBytes     = gauge("holdfast_store_memtable_bytes", "Bytes set aside for what is not in a table yet.")
	StoreUnflushed         = gauge("holdfast_store_unflushed_bytes", "Bytes committed since the last flush: a crash has the raft log replayed for them.")
	StoreSublevels         = gauge("holdfast_store_sublevels", "Sublevels of level 0, which each read may have to look at.")
	StoreReadAmplification = gauge("holdfast_store_read_amplification", "Tables and memtables that a read of one key may have to look at.")
	StoreFlushes           = counter("holdfast_store_flushes_total", "Flushes of the store.")
	StoreCompactions       = counter("holdfast_store_compactions_total", "Compactions of tables of the store.")
	StoreCompactionDebt    = gauge("holdfast_store_compaction_debt_bytes", "Bytes that compactions of tables still have to rewrite, estimated.")
	StoreWritten           = counter("holdfast_store_written_bytes_total", "Bytes that flushes and compactions of tables have written.")
	StoreCacheBytes        = gauge("holdfast_store_cache_bytes", "Bytes of blocks of tables in memory.")
	StoreCacheHits         = counter("holdfast_store_cache_hits_total", "Blocks found in memory.")
	StoreCacheMisses       = counter("holdfast_store_cache_misses_total", "Blocks read from tables.")
	StoreMisuses           = counter("holdfast_store_misuses_total", "Rows found not to have been written and removed exactly once. Anything but 0 is a mistake in Holdfast.")
	StoreCongested         = gauge("holdfast_store_congested", "Whether writers are slowed down because flushes or compactions of tables lag behind: 1, or 0.")
	DurableIndex           = gauge("holdfast_store_durable_index", "Index of the last entry that the store holds durably; what is above it lies in the raft log.")

	CensusBlocks  = gauge("holdfast_census_blocks", "Blocks of neighbouring keys that keys are counted by.")
	RowCacheRows  = gauge("holdfast_row_cache_rows", "Newest rows of keys in memory.")
	RowCacheBytes = gauge("holdfast_row_cache_bytes", "Bytes of the newest rows of keys in memory.")

	WatchGroups       = gauge("holdfast_watch_groups", "Groups of watches with the same range and options, each matched once.")
	WatchLagging      = gauge("holdfast_watch_lagging_watchers", "Watches that have something to receive.")
	WatchLag          = gauge("holdfast_watch_lag_revisions", "How many revisions the watch furthest behind is behind.")
	WatchLogBytes     = gauge("holdfast_watch_log_bytes", "Bytes of the log of events in memory.")
	WatchLogFirst     = gauge("holdfast_watch_log_first_revision", "Oldest revision in the log of events in memory.")
	WatchEncodings    = counter("holdfast_watch_encodings_total", "Encodings of events, each shared by all watches that get it.")
	WatchMatches      = counter("holdfast_watch_matches_total", "Events that concerned a group of watches.")
	WatchHistoryReads = counter("holdfast_watch_history_reads_total", "Reads of the history for watches too far behind for the log of events in memory.")

	CatchUpUnderWay = gauge("holdfast_catch_up_under_way", "States being sent, received, exported or imported.", "work")
	CatchUpDone     = counter("holdfast_catch_up_done_total", "States sent, received, exported or imported.", "work")
	CatchUpFailed   = counter("holdfast_catch_up_failed_total", "States whose sending, receiving, exporting or importing failed.", "work")
	CatchUpBytes    = counter("holdfast_catch_up_bytes_total", "Bytes of the states sent, received, exported or imported.", "work")
	CatchUpTime     = counter("holdfast_catch_up_seconds_total", "Time spent on the states sent, received, exported or imported.", "work")
	CatchUpInForce  = counter("holdfast_catch_up_in_force_total", "Received states that took the place of this member's.")
)
