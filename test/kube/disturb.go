package kube

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// disturbance is something done to the store when a share of a round of requests is done.
type disturbance struct {
	share   float64
	compact bool
	keep    int64 // how many revisions the compaction leaves
	kill    bool  // after the compaction, if both
	// down is how long the store stays away.
	down time.Duration
}

var disturbances = []disturbance{
	{share: 0.10, compact: true, keep: historyKept},
	{share: 0.20, kill: true},
	{share: 0.35, compact: true, keep: historyKept},
	{share: 0.45, compact: true, kill: true, down: time.Second},
	{share: 0.60, compact: true, keep: historyKept},
	{share: 0.75, kill: true, down: 300 * time.Millisecond},
	{share: 0.85, compact: true, keep: historyKept},
}

// historyKept is how many revisions a compaction leaves, so that watches which are not far behind keep their place.
const historyKept = 300

// requestsPerRound is for how many requests the disturbances are meant; longer scripts go through them several times.
const requestsPerRound = 10_000

// disturb carries the disturbances out, each when its share of a round's requests is done. It ends after the last one.
func (d *driver) disturb(ctx context.Context, total int) error {
	rounds := 1 + total/requestsPerRound
	for round := range rounds {
		for _, what := range disturbances {
			at := (float64(round) + what.share) / float64(rounds) * float64(total)
			for float64(d.done.Load()) < at {
				select {
				case <-ctx.Done():
					return nil // the scripts ended early, which they report themselves
				case <-time.After(5 * time.Millisecond):
				}
			}
			if err := d.side.disturb(ctx, what); err != nil {
				return err
			}
		}
	}
	return nil
}

// disturb carries one disturbance out.
func (s *side) disturb(ctx context.Context, what disturbance) error {
	if what.compact {
		if err := s.compact(ctx, what.keep); err != nil {
			return err
		}
	}
	if !what.kill {
		return nil
	}
	s.store.kill()
	time.Sleep(what.down)
	return s.startStore(ctx)
}

// compact drops the store's history but for the last keep revisions.
func (s *side) compact(ctx context.Context, keep int64) error {
	current, err := s.revision(ctx)
	if err != nil {
		return err
	}
	if current <= keep {
		return nil
	}
	_, err = s.etcdctl(ctx, "compaction", strconv.FormatInt(current-keep, 10))
	if err != nil && strings.Contains(err.Error(), "required revision has been compacted") {
		return nil // an earlier compaction left less than keep
	}
	return err
}

// pageSize is small against the number of objects, and no divisor of it.
const pageSize = 97

// listPages lists all kinds in pages again and again until ctx ends and returns how many lists were completed.
// Within a list the keys must rise from page to page and the resource version must stay.
func (s *side) listPages(ctx context.Context) (int, error) {
	complete := 0
	for ctx.Err() == nil {
		began := time.Now()
		for _, k := range kinds {
			_, err := s.pages(ctx, k, pageSize)
			switch {
			case err == nil:
				complete++
			case isVerdict(err):
				return complete, fmt.Errorf("list %s in pages: %w", k.resource.Resource, err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200*time.Millisecond + 4*time.Since(began)): // or reading lists would be most of the work
		}
	}
	return complete, nil
}

func isVerdict(err error) bool {
	_, ok := errors.AsType[verdict](err)
	return ok
}

// page is what one answer to a list in pages held.
type page struct {
	items     []unstructured.Unstructured
	remaining int64 // -1 when the answer did not say
}

// pages lists one kind in pages of at most limit objects.
func (s *side) pages(ctx context.Context, k *kind, limit int64) ([]page, error) {
	var pages []page
	opts := metav1.ListOptions{Limit: limit}
	last, version := "", ""
	for {
		list, err := s.client.Resource(k.resource).List(ctx, opts)
		if err != nil {
			return nil, err
		}
		if version == "" {
			version = list.GetResourceVersion()
		}
		if got := list.GetResourceVersion(); got != version {
			return nil, wrong("page %d is of version %s, the first of %s", len(pages), got, version)
		}
		if int64(len(list.Items)) > limit {
			return nil, wrong("page %d holds %d objects of at most %d", len(pages), len(list.Items), limit)
		}
		for i := range list.Items {
			key := list.Items[i].GetNamespace() + "/" + list.Items[i].GetName()
			if key <= last {
				return nil, wrong("page %d: %s comes after %s", len(pages), key, last)
			}
			last = key
		}
		p := page{items: list.Items, remaining: -1}
		if n := list.GetRemainingItemCount(); n != nil {
			p.remaining = *n
		}
		pages = append(pages, p)
		opts.Continue = list.GetContinue()
		if opts.Continue == "" {
			return pages, nil
		}
	}
}
