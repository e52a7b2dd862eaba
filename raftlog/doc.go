// Package raftlog keeps the raft log of one member on disk: entries, hard state and snapshot records, in the format of
// etcd's write-ahead log, so that etcd and its tools read what we write and we read what they wrote.
//
// A Log starts no goroutine and waits for nothing but its disk. One goroutine appends (the log writer of package replica);
// Entries may be called beside it by others. DESIGN.md in this folder draws the format and lists the crash cases.
//
//	Shape   <dir>/%016x-%016x.wal   segment: sequence number, index of the first entry that may follow
//	        <dir>/0.tmp             the next segment, allocated ahead
//	        <dir>/<segment>.broken  copy of a segment whose torn tail was cut
//	        frame:  length (8 B, little endian, top byte 0x80|padding) record padding to 8 B
//	        record: type, rolling CRC-32C of all data so far, data (protobuf walpb.Record)
//	Units   sizes in bytes; index and term as raft counts them
//	Errors  ErrExists, ErrNotFound, ErrReleased, ErrDamaged (see DamageError), ErrFailed
//	Source  etcd 3.7 server/storage/wal (format and reader's rules); raft dissertation, section 3.8 (what must be durable)
package raftlog
