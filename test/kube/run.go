package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// outcome is all that is compared of one side.
type outcome struct {
	observers []*observer
	contents  contents
	objects   map[string]string // final objects: fingerprints
	states    map[string]int    // final objects: states
	pageSizes map[string]string // of the final lists in pages: objects and remaining objects, page by page
	versions  map[string]int64  // keys in the store: how often written
	expiry    []string

	requests, retries, conflicts int64
	lists                        int
	elapsed                      time.Duration
}

// runScripts carries the scripts out on one side, with all observers and disturbances, and gathers the outcome.
func (s *side) runScripts(ctx context.Context, scripts []script) (*outcome, error) {
	began := time.Now()
	out := &outcome{observers: s.observers(), contents: contents{}}
	watching, stopWatching := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stopWatching()
	for _, o := range out.observers {
		watchers.Go(func() { o.run(watching) })
	}
	for _, o := range out.observers {
		if err := o.waitStarted(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.load(ctx, scripts, out); err != nil {
		return nil, err
	}
	if err := s.finish(ctx, out); err != nil {
		return nil, err
	}
	stopWatching()
	watchers.Wait()
	for _, o := range out.observers {
		if err := out.contents.collect(o); err != nil {
			return nil, err
		}
	}
	if err := s.gather(ctx, out); err != nil {
		return nil, err
	}
	out.elapsed = time.Since(began)
	return out, nil
}

// observers returns what watches the side: for each kind a watch that stays, one that leaves and resumes, and an
// informer.
func (s *side) observers() []*observer {
	var all []*observer
	for _, k := range kinds {
		api := s.client.Resource(k.resource)
		name := s.name + ": " + k.resource.Resource
		all = append(all,
			&observer{name: name + ": watch", kind: k, api: api},
			&observer{name: name + ": watch with naps", kind: k, api: api, nap: 50},
			&observer{name: name + ": informer", kind: k, api: api, informer: true})
	}
	return all
}

// load runs the scripts, the disturbances and the lists in pages beside one another.
func (s *side) load(ctx context.Context, scripts []script, out *outcome) error {
	d := &driver{side: s}
	loading, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	var disturbed, paged error
	beside.Go(func() { disturbed = d.disturb(loading, countSteps(scripts)) })
	beside.Go(func() { out.lists, paged = s.listPages(loading) })
	err := d.run(ctx, scripts)
	cancel()
	beside.Wait()
	out.requests, out.retries, out.conflicts = d.done.Load(), d.retries.Load(), d.conflicts.Load()
	return errors.Join(err, disturbed, paged)
}

// finish creates the last objects and waits until every observer has seen its kind's.
func (s *side) finish(ctx context.Context, out *outcome) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 60*time.Second, errors.New("60 s are over"))
	defer cancel()
	for _, k := range kinds {
		id := identity{k, namespaces[0], lastName}
		_, err := s.client.Resource(k.resource).Namespace(id.namespace).Create(ctx, id.content(1),
			metav1.CreateOptions{FieldManager: fieldManager})
		if err != nil {
			return fmt.Errorf("create %s: %w", id, err)
		}
	}
	for _, o := range out.observers {
		if err := o.waitEnded(ctx); err != nil {
			return err
		}
	}
	return nil
}

// gather reads the final state: through the API server in pages, from the store itself, and again through the API
// server after the store was stopped and started.
func (s *side) gather(ctx context.Context, out *outcome) error {
	if err := s.readObjects(ctx, out); err != nil {
		return err
	}
	var err error
	if out.versions, err = s.keyVersions(ctx); err != nil {
		return err
	}
	s.store.stop(20 * time.Second)
	if err := s.startStore(ctx); err != nil {
		return err
	}
	before := out.objects
	if err := s.readObjects(ctx, out); err != nil {
		return err
	}
	if diff := compare("after a restart", "before", "after", before, out.objects, false); diff != nil {
		return errors.Join(diff...)
	}
	out.expiry, err = s.expiry(ctx)
	return err
}

func (s *side) readObjects(ctx context.Context, out *outcome) error {
	out.objects, out.states, out.pageSizes = map[string]string{}, map[string]int{}, map[string]string{}
	ctx, cancel := context.WithTimeoutCause(ctx, 60*time.Second, errors.New("60 s are over"))
	defer cancel()
	for _, k := range kinds {
		var pages []page
		err := until(ctx, "list "+k.resource.Resource, func() (err error) {
			pages, err = s.pages(ctx, k, pageSize)
			return err
		})
		if err != nil {
			return err
		}
		for _, p := range pages {
			out.pageSizes[k.resource.Resource] += fmt.Sprintf("%d+%d ", len(p.items), p.remaining)
			for i := range p.items {
				id := identity{k, p.items[i].GetNamespace(), p.items[i].GetName()}
				if automatic(id.key()) || !strings.HasPrefix(id.namespace, "load-") {
					continue // Kubernetes' own
				}
				out.objects[id.String()] = fingerprint(id, &p.items[i])
				out.states[id.String()] = stepOf(id, &p.items[i])
			}
		}
	}
	return nil
}

// verdicts judges both outcomes against the scripts and against each other.
func verdicts(scripts []script, nameA string, a *outcome, nameB string, b *outcome) []error {
	var failures []error
	want := map[string]int{}
	for _, s := range scripts {
		if state, alive := s.final(); alive {
			want[s.id.String()] = state
		}
	}
	for _, k := range kinds {
		want[identity{k, namespaces[0], lastName}.String()] = 1
	}
	for _, side := range []struct {
		name string
		*outcome
	}{{nameA, a}, {nameB, b}} {
		for _, o := range side.observers {
			failures = append(failures, judge(o, scripts)...)
		}
		failures = append(failures, compare("final state", "the script", side.name, want, side.states, false)...)
	}
	failures = append(failures, compare("content of an event", nameA, nameB, a.contents, b.contents, true)...)
	failures = append(failures, compare("final object", nameA, nameB, a.objects, b.objects, false)...)
	failures = append(failures, compare("pages", nameA, nameB, a.pageSizes, b.pageSizes, false)...)
	failures = append(failures, compare("writes to a key", nameA, nameB, a.versions, b.versions, false)...)
	if fmt.Sprint(a.expiry) != fmt.Sprint(b.expiry) {
		failures = append(failures, fmt.Errorf("answers after a compaction: %s %q, %s %q", nameA, a.expiry, nameB, b.expiry))
	}
	return failures
}
