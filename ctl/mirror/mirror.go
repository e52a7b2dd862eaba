// Package mirror copies the keys of one cluster into another and goes on copying what changes.
//
// First every key is copied as it is at one revision, then each later revision of the source becomes one transaction of
// the destination, so that what changed together there changes together here. Values are copied, leases are not.
//
//	Shape   pages of the source -> transactions of the destination, bounded by number and bytes
//	Errors  what the clusters say; rpctypes.ErrCompacted when the source has dropped what is still to be copied
//	Source  etcd v3 API, services KV and Watch
package mirror

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// pageKeys is how many keys are read at once: few enough that a page of large values fits into memory.
	pageKeys = 1000
	// batchBytesMax bounds keys and values of one transaction, below the 1.5 MiB a server takes unless told otherwise. One
	// that is larger by itself goes alone, and the server decides.
	batchBytesMax = 1 << 20
)

// Source is what the copy is taken from: a *clientv3.Client.
type Source interface {
	clientv3.KV
	clientv3.Watcher
}

// Config says what is copied, and to where.
type Config struct {
	Prefix     string // keys to copy; empty is all
	DestPrefix string // stands in the copy where Prefix stands in the source
	// Revision above 1: copy no keys as they are, only what changes from this revision on.
	Revision int64
	// TxnOps bounds the operations of one transaction, at least 1. A revision that changed more keys becomes several.
	TxnOps int
}

// Progress may be read while a mirror runs.
type Progress struct {
	Keys     atomic.Int64 // writes and deletions that the destination has
	Revision atomic.Int64 // of the source, up to which the destination has everything; 0 until the first copy is whole
}

// Run copies until ctx ends or a cluster refuses, and says why.
func Run(ctx context.Context, from Source, to clientv3.KV, cfg Config, progress *Progress) error {
	if cfg.TxnOps < 1 {
		return fmt.Errorf("a transaction of %d operations", cfg.TxnOps)
	}
	m := &mirror{Config: cfg, to: to, progress: progress}
	copied := cfg.Revision - 1
	if copied < 1 {
		var err error
		if copied, err = m.copyAll(ctx, from); err != nil {
			return err
		}
	}
	progress.Revision.Store(copied)
	return m.follow(ctx, from, copied)
}

type mirror struct {
	Config
	to       clientv3.KV
	progress *Progress

	ops   []clientv3.Op // not sent yet
	bytes int           // of their keys and values
}

// copyAll copies the keys as they are and returns the revision they were read at.
func (m *mirror) copyAll(ctx context.Context, from Source) (revision int64, err error) {
	key, end := m.Prefix, clientv3.GetPrefixRangeEnd(m.Prefix)
	if key == "" {
		key, end = "\x00", "\x00"
	}
	for {
		page, err := from.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(pageKeys), clientv3.WithRev(revision))
		if err != nil {
			return 0, err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		for _, row := range page.Kvs {
			if err := m.put(ctx, row); err != nil {
				return 0, err
			}
		}
		if !page.More || len(page.Kvs) == 0 {
			return revision, m.send(ctx)
		}
		key = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// follow copies what changes after a revision.
func (m *mirror) follow(ctx context.Context, from Source, copied int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the watch ends with us
	for answer := range from.Watch(ctx, m.Prefix, clientv3.WithPrefix(), clientv3.WithRev(copied+1)) {
		if answer.CompactRevision != 0 {
			return rpctypes.ErrCompacted
		}
		if err := answer.Err(); err != nil {
			return err
		}
		if err := m.apply(ctx, answer.Events); err != nil {
			return err
		}
		if last := len(answer.Events) - 1; last >= 0 {
			m.progress.Revision.Store(answer.Events[last].Kv.ModRevision)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("the watch has ended")
}

// apply carries out events in their order, each revision in transactions of its own.
func (m *mirror) apply(ctx context.Context, events []*clientv3.Event) error {
	var revision int64
	for _, event := range events {
		if event.Kv.ModRevision != revision {
			if err := m.send(ctx); err != nil {
				return err
			}
			revision = event.Kv.ModRevision
		}
		if err := m.do(ctx, event); err != nil {
			return err
		}
	}
	return m.send(ctx)
}

func (m *mirror) do(ctx context.Context, event *clientv3.Event) error {
	if event.Type == mvccpb.Event_DELETE {
		key := m.destination(event.Kv.Key)
		return m.add(ctx, clientv3.OpDelete(key), len(key))
	}
	return m.put(ctx, event.Kv)
}

func (m *mirror) put(ctx context.Context, row *mvccpb.KeyValue) error {
	key := m.destination(row.Key)
	return m.add(ctx, clientv3.OpPut(key, string(row.Value)), len(key)+len(row.Value))
}

// destination returns the name of a key in the copy.
func (m *mirror) destination(key []byte) string { return m.DestPrefix + string(key[len(m.Prefix):]) }

// add puts an operation of so many bytes into the open transaction, after sending what it has no room beside.
func (m *mirror) add(ctx context.Context, op clientv3.Op, bytes int) error {
	if len(m.ops) == m.TxnOps || len(m.ops) > 0 && m.bytes+bytes > batchBytesMax {
		if err := m.send(ctx); err != nil {
			return err
		}
	}
	m.ops, m.bytes = append(m.ops, op), m.bytes+bytes
	return nil
}

// send carries the open transaction out, if there is one.
func (m *mirror) send(ctx context.Context) error {
	if len(m.ops) == 0 {
		return nil
	}
	if _, err := m.to.Txn(ctx).Then(m.ops...).Commit(); err != nil {
		return err
	}
	m.progress.Keys.Add(int64(len(m.ops)))
	m.ops, m.bytes = m.ops[:0], 0
	return nil
}
