package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// driver carries scripts out against one side.
//
// A store that dies may leave a request half known: its client got an error, yet it may have been carried out. The
// driver then looks at the object once the store answers again. Every write makes a state of its own and is bound to
// the version of the object it starts from, so a look decides, and a late copy of the request can do no harm.
type driver struct {
	side *side

	done      atomic.Int64 // requests carried out
	retries   atomic.Int64 // answers that left open whether the request was carried out
	conflicts atomic.Int64 // answers 409, wanted ones included
}

const (
	// workers is how many objects are worked on at once; enough to keep two cores of API server busy.
	workers = 24
	// failuresMax is how many objects may go wrong before the run is over; a store that lost something has more to show.
	failuresMax = 5
	// requestTimeout is longer than the API server's own limit of 60 s, so that the server answers first.
	requestTimeout = 70 * time.Second
	// stepTimeout bounds one step with all its repetitions, a restart of the store included.
	stepTimeout = 120 * time.Second
)

// run carries all scripts out and returns the errors of those that did not go as written.
func (d *driver) run(ctx context.Context, scripts []script) error {
	queues := make([]chan script, workers)
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var mu sync.Mutex // guards failures
	var failures []error
	var group sync.WaitGroup
	for i := range queues {
		queues[i] = make(chan script)
		group.Go(func() {
			for s := range queues[i] {
				if err := d.script(ctx, s); err != nil {
					mu.Lock()
					if len(failures) < failuresMax {
						failures = append(failures, fmt.Errorf("%s: %w", s.id, err))
					}
					if len(failures) == failuresMax {
						giveUp()
					}
					mu.Unlock()
				}
			}
		})
	}
	for _, s := range scripts {
		h := fnv.New32a()
		_, _ = h.Write([]byte(s.id.String())) // a hash takes everything
		queues[h.Sum32()%workers] <- s
	}
	for _, q := range queues {
		close(q)
	}
	group.Wait()
	return errors.Join(failures...)
}

// script carries one object's steps out.
func (d *driver) script(ctx context.Context, s script) error {
	o := &object{driver: d, id: s.id, finalized: s.finalized, raced: s.raced,
		api: d.side.client.Resource(s.id.kind.resource).Namespace(s.id.namespace)}
	for i, st := range s.steps {
		ctx, cancel := context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("%s are over", stepTimeout))
		err := o.step(ctx, st)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d, %s to state %d: %w", i, st.verb, st.state, err)
		}
		d.done.Add(1)
	}
	return nil
}

// object is one object while its script runs.
type object struct {
	*driver
	id        identity
	finalized bool
	raced     bool
	api       dynamic.ResourceInterface

	current *unstructured.Unstructured // as last answered; nil when deleted
	older   string                     // a resource version it had before
}

func (o *object) step(ctx context.Context, st step) error {
	switch st.verb {
	case create:
		return o.write(ctx, st.state, func(ctx context.Context) (*unstructured.Unstructured, error) {
			return o.api.Create(ctx, o.full(st.state), metav1.CreateOptions{FieldManager: fieldManager})
		})
	case update:
		return o.write(ctx, st.state, func(ctx context.Context) (*unstructured.Unstructured, error) {
			return o.api.Update(ctx, o.bound(o.full(st.state)), metav1.UpdateOptions{FieldManager: fieldManager})
		})
	case patch:
		return o.write(ctx, st.state, func(ctx context.Context) (*unstructured.Unstructured, error) {
			return o.api.Patch(ctx, o.id.name, types.MergePatchType, body(o.bound(o.id.content(st.state))),
				metav1.PatchOptions{FieldManager: fieldManager})
		})
	case apply:
		return o.write(ctx, st.state, func(ctx context.Context) (*unstructured.Unstructured, error) {
			return o.api.Apply(ctx, o.id.name, o.bound(o.id.content(st.state)),
				metav1.ApplyOptions{FieldManager: fieldManager + "-apply", Force: true})
		})
	case status:
		return o.write(ctx, st.state, func(ctx context.Context) (*unstructured.Unstructured, error) {
			next := o.current.DeepCopy()
			next.Object["status"] = map[string]any{"step": int64(st.state)}
			return o.api.UpdateStatus(ctx, next, metav1.UpdateOptions{FieldManager: fieldManager})
		})
	case stale:
		return o.stale(ctx)
	case same:
		return o.same(ctx)
	case remove, release:
		return o.end(ctx, st.verb)
	case race:
		return o.race(ctx, st.state)
	}
	panic(fmt.Sprintf("kube: no verb %d", st.verb))
}

// full returns all of the object in that state.
func (o *object) full(state int) *unstructured.Unstructured {
	obj := o.id.content(state)
	if o.finalized {
		obj.SetFinalizers([]string{finalizer})
	}
	if o.raced {
		for _, field := range racerFields {
			o.id.setPayload(obj, field, "0")
		}
	}
	return obj
}

// bound ties a write to the version the object has now.
func (o *object) bound(obj *unstructured.Unstructured) *unstructured.Unstructured {
	obj.SetResourceVersion(o.current.GetResourceVersion())
	return obj
}

// write repeats a request until the object is in the wanted state.
func (o *object) write(ctx context.Context, state int, request func(context.Context) (*unstructured.Unstructured, error)) error {
	var next *unstructured.Unstructured
	err := o.settle(ctx,
		func(ctx context.Context) (err error) { next, err = request(ctx); return err },
		func(found *unstructured.Unstructured) bool {
			next = found
			return found != nil && stepOf(o.id, found) == state
		})
	if err != nil {
		return err
	}
	if got := stepOf(o.id, next); got != state {
		return fmt.Errorf("the answer is in state %d", got)
	}
	if o.current != nil {
		o.older = o.current.GetResourceVersion()
	}
	o.current = next
	return nil
}

// settleOn sends a request until it succeeds. Once an answer left open whether it was carried out, look decides.
func (d *driver) settleOn(ctx context.Context, request func(context.Context) error, look func(context.Context) (bool, error)) error {
	open := false
	for {
		err := limited(ctx, request)
		switch {
		case err == nil:
			return nil
		case isDefinite(err) && !open:
			return err
		case !isDefinite(err):
			open = true
			d.retries.Add(1)
		}
		reached := false
		looked := until(ctx, "look at the object after: "+err.Error(), func() (failure error) {
			reached, failure = look(ctx)
			return failure
		})
		if looked != nil {
			return looked
		}
		if reached {
			return nil
		}
		if isDefinite(err) {
			return err
		}
	}
}

// settle does the same with a look at the object; reached is given nil when there is none.
func (o *object) settle(ctx context.Context, request func(context.Context) error, reached func(*unstructured.Unstructured) bool) error {
	return o.settleOn(ctx, request, func(ctx context.Context) (bool, error) {
		found, err := o.get(ctx)
		return err == nil && reached(found), err
	})
}

// get reads the object from the store; nil means that there is none.
func (o *object) get(ctx context.Context) (*unstructured.Unstructured, error) {
	var found *unstructured.Unstructured
	err := limited(ctx, func(ctx context.Context) (err error) {
		found, err = o.api.Get(ctx, o.id.name, metav1.GetOptions{})
		return err
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return found, err
}

// stale puts with an older version and wants to be refused.
func (o *object) stale(ctx context.Context) error {
	if o.older == "" {
		return nil // the step stands before the first change of this life
	}
	late := o.full(-1)
	late.SetResourceVersion(o.older)
	return until(ctx, "put with an old version", func() error {
		err := limited(ctx, func(ctx context.Context) error {
			_, err := o.api.Update(ctx, late, metav1.UpdateOptions{FieldManager: fieldManager})
			return err
		})
		if apierrors.IsConflict(err) {
			o.conflicts.Add(1)
			return nil
		}
		if err == nil {
			return wrong("a put with version %s was accepted, the object had %s", o.older, o.current.GetResourceVersion())
		}
		return err
	})
}

// same puts what is there and wants the version to stay.
func (o *object) same(ctx context.Context) error {
	var got *unstructured.Unstructured
	err := o.settle(ctx, func(ctx context.Context) (err error) {
		got, err = o.api.Update(ctx, o.current, metav1.UpdateOptions{FieldManager: fieldManager})
		return err
	}, func(found *unstructured.Unstructured) bool { got = found; return found != nil })
	if err != nil {
		return err
	}
	if got.GetResourceVersion() != o.current.GetResourceVersion() {
		return fmt.Errorf("version %s became %s", o.current.GetResourceVersion(), got.GetResourceVersion())
	}
	return nil
}

// end deletes the object or, with a finalizer, first marks it and then takes the finalizer away.
func (o *object) end(ctx context.Context, v verb) error {
	request := func(ctx context.Context) error {
		uid, version := o.current.GetUID(), o.current.GetResourceVersion()
		return o.api.Delete(ctx, o.id.name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
		})
	}
	reached := func(found *unstructured.Unstructured) bool { return found == nil }
	switch {
	case v == release:
		request = func(ctx context.Context) error {
			next := o.current.DeepCopy()
			next.SetFinalizers(nil)
			_, err := o.api.Update(ctx, next, metav1.UpdateOptions{FieldManager: fieldManager})
			return err
		}
	case o.finalized:
		reached = func(found *unstructured.Unstructured) bool {
			return found != nil && found.GetDeletionTimestamp() != nil
		}
	}
	if err := o.settle(ctx, request, reached); err != nil {
		return err
	}
	// What the next step starts from; also the proof that the delete did what it said.
	return until(ctx, "look at the deleted object", func() error {
		found, err := o.get(ctx)
		if err != nil {
			return err
		}
		if !reached(found) {
			return wrong("deleted, but found %v", found)
		}
		o.current, o.older = found, ""
		return nil
	})
}

// race lets two clients count in the object until each has written its share.
func (o *object) race(ctx context.Context, state int) error {
	var group sync.WaitGroup
	errs := make([]error, len(racerFields))
	for i, field := range racerFields {
		group.Go(func() {
			for n := 1; n <= racersWrites && errs[i] == nil; n++ {
				errs[i] = o.count(ctx, field, n)
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return until(ctx, "look at the raced object", func() error {
		found, err := o.get(ctx)
		if err != nil {
			return err
		}
		if found == nil {
			return wrong("the raced object is gone")
		}
		if got := stepOf(o.id, found); got != state {
			return wrong("the racers end at %d instead of %d", got, state)
		}
		o.current = found
		return nil
	})
}

// count writes n into a racer's field, again after each conflict with the other racer.
func (o *object) count(ctx context.Context, field string, n int) error {
	value := strconv.Itoa(n)
	counted := func(obj *unstructured.Unstructured) bool { return obj != nil && o.id.payload(obj, field) == value }
	for {
		var found *unstructured.Unstructured
		if err := until(ctx, "read before counting", func() (err error) { found, err = o.get(ctx); return err }); err != nil {
			return err
		}
		if found == nil {
			return wrong("the raced object is gone")
		}
		if counted(found) {
			return nil
		}
		o.id.setPayload(found, field, value)
		err := o.settle(ctx, func(ctx context.Context) error {
			_, err := o.api.Update(ctx, found, metav1.UpdateOptions{FieldManager: fieldManager})
			return err
		}, counted)
		if !apierrors.IsConflict(err) {
			return err
		}
		o.conflicts.Add(1)
	}
}

// limited calls request with the time one request may take.
func limited(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return request(ctx)
}

// isDefinite says whether an answer tells for certain that the request was not carried out.
func isDefinite(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || isExpired(err)
}

func isExists(err error) bool { return apierrors.IsAlreadyExists(err) }

// isExpired says whether the revision asked for is gone: 410.
func isExpired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// body writes a patch.
func body(obj *unstructured.Unstructured) []byte {
	text, err := json.Marshal(obj.Object)
	if err != nil {
		panic(fmt.Sprintf("kube: write %v as JSON: %v", obj.Object, err))
	}
	return text
}
