package metrics

// What etcd shows of keys, watches, disk and database.
var (
	Ranges       = counter("etcd_mvcc_range_total", "Ranges read by this member, those in transactions included.")
	Puts         = counter("etcd_mvcc_put_total", "Puts applied by this member, those in transactions included.")
	Deletes      = counter("etcd_mvcc_delete_total", "Deletions applied by this member, those in transactions included.")
	Txns         = counter("etcd_mvcc_txn_total", "Transactions of more than one operation on this member.")
	OldPuts      = old(counter("etcd_debugging_mvcc_put_total", "The same as etcd_mvcc_put_total, under the name it had up to etcd 3.4."))
	OldDeletes   = old(counter("etcd_debugging_mvcc_delete_total", "The same as etcd_mvcc_delete_total, under the name it had up to etcd 3.4."))
	PutBytes     = gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of the keys and values put since the member started.")
	Keys         = gauge("etcd_debugging_mvcc_keys_total", "Keys that live at the current revision.")
	Revision     = gauge("etcd_debugging_mvcc_current_revision", "Current revision of the store.")
	CompactedRev = gauge("etcd_debugging_mvcc_compact_revision", "Revision of the last compaction, -1 before the first.")

	WatchStreams  = gauge("etcd_debugging_mvcc_watch_stream_total", "Streams of watches that are open.")
	Watchers      = gauge("etcd_debugging_mvcc_watcher_total", "Watches.")
	SlowWatchers  = gauge("etcd_debugging_mvcc_slow_watcher_total", "Watches that read the history because they are too far behind for the log of events in memory.")
	WatchEvents   = counter("etcd_debugging_mvcc_events_total", "Events handed to watches.")
	PendingEvents = gauge("etcd_debugging_mvcc_pending_events_total", "Events in the log in memory that wait to be sent, once for each watch.")

	CompactionIndexPause = idle(histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "Pauses of requests while the index in memory is compacted.", doubling(0.5, 14)))
	CompactionPause      = histogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Steps of the removal of old revisions. Requests go on meanwhile.", doubling(1, 13))
	CompactionTime       = histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "From the first step of the removal of old revisions to the last, rests included.", doubling(100, 14))
	CompactionLast       = gauge("etcd_debugging_mvcc_db_compaction_last", "Unix time at which the last removal of old revisions was complete, 0 if none was since the start.")
	CompactionKeys       = counter("etcd_debugging_mvcc_db_compaction_keys_total", "Old revisions of keys that were removed.")

	SizeBytes        = gauge("etcd_mvcc_db_total_size_in_bytes", "What the data takes on disk, at least what is in use.")
	SizeInUseBytes   = gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Encoded bytes of all revisions that are kept.")
	OpenReads        = gauge("etcd_mvcc_db_open_read_transactions", "Ranges that are being read.")
	HashDuration     = histogram("etcd_mvcc_hash_duration_seconds", "Summing everything that the member holds.", doubling(0.01, 15))
	HashRevDuration  = histogram("etcd_mvcc_hash_rev_duration_seconds", "Summing the keys at a revision.", doubling(0.01, 15))
	CommitDuration   = histogram("etcd_disk_backend_commit_duration_seconds", "Committing the changes of a run of entries to the store. What makes them durable is the raft log.", doubling(0.001, 14))
	CommitRebalance  = idle(histogram("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "Rebalancing pages of the database in a commit.", doubling(0.001, 14)))
	CommitSpill      = idle(histogram("etcd_debugging_disk_backend_commit_spill_duration_seconds", "Spilling pages of the database in a commit.", doubling(0.001, 14)))
	CommitWrite      = idle(histogram("etcd_debugging_disk_backend_commit_write_duration_seconds", "Writing pages of the database in a commit.", doubling(0.001, 14)))
	DefragDuration   = histogram("etcd_disk_backend_defrag_duration_seconds", "Defragmentations that were asked for. There is nothing to do in them, so each takes 0.", doubling(0.1, 13))
	Defragmenting    = idle(gauge("etcd_disk_defrag_inflight", "Whether a defragmentation is under way."))
	SnapshotDuration = histogram("etcd_disk_backend_snapshot_duration_seconds", "Writing a snapshot for a client out and sending it.", doubling(0.01, 17))

	WALSyncDuration  = histogram("etcd_disk_wal_fsync_duration_seconds", "Syncing the raft log.", doubling(0.001, 14))
	WALWriteDuration = histogram("etcd_disk_wal_write_duration_seconds", "Writing entries to the raft log, before the sync.", doubling(0.001, 14))
	WALBytes         = gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the raft log.")

	SnapMarshal = idle(histogram("etcd_debugging_snap_save_marshalling_duration_seconds", "Encoding snapshot files.", doubling(0.001, 14)))
	SnapSave    = idle(histogram("etcd_debugging_snap_save_total_duration_seconds", "Writing snapshot files.", doubling(0.001, 14)))
	SnapSync    = idle(histogram("etcd_snap_fsync_duration_seconds", "Syncing snapshot files.", doubling(0.001, 14)))
	SnapDBSave  = histogram("etcd_snap_db_save_total_duration_seconds", "Receiving a state from another member and writing it down.", doubling(0.1, 10))
	SnapDBSync  = idle(histogram("etcd_snap_db_fsync_duration_seconds", "Syncing a received database file.", doubling(0.001, 14)))
)

// What etcd shows of its store of the v2 protocol, and of the proxy that is a command of its own.
var (
	V2Expires      = idle(counter("etcd_debugging_store_expires_total", "Keys of the v2 store that expired."))
	V2Watches      = idle(counter("etcd_debugging_store_watch_requests_total", "Watches made in the v2 store."))
	V2Watchers     = idle(gauge("etcd_debugging_store_watchers", "Watches in the v2 store."))
	V2Reads        = idle(counter("etcd_debugging_store_reads_total", "Reads in the v2 store.", "action"))
	V2ReadsFailed  = idle(counter("etcd_debugging_store_reads_failed_total", "Reads in the v2 store that failed.", "action"))
	V2Writes       = idle(counter("etcd_debugging_store_writes_total", "Writes in the v2 store.", "action"))
	V2WritesFailed = idle(counter("etcd_debugging_store_writes_failed_total", "Writes in the v2 store that failed.", "action"))

	ProxyWatchersCoalesced = gauge("etcd_grpc_proxy_watchers_coalescing_total", "Watches of clients that share one with others. 0 but in grpc-proxy.")
	ProxyEventsCoalesced   = counter("etcd_grpc_proxy_events_coalescing_total", "Events that reached several clients through one watch. 0 but in grpc-proxy.")
	ProxyCacheKeys         = gauge("etcd_grpc_proxy_cache_keys_total", "Ranges in the cache. 0 but in grpc-proxy.")
	ProxyCacheHits         = gauge("etcd_grpc_proxy_cache_hits_total", "Ranges answered from the cache. 0 but in grpc-proxy.")
	ProxyCacheMisses       = gauge("etcd_grpc_proxy_cache_misses_total", "Ranges that the cache did not have. 0 but in grpc-proxy.")
)
