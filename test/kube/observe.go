package kube

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// seen is one event as an observer saw it.
type seen struct {
	expected
	fingerprint string
}

// epoch is what an observer saw between two lists. An observer that never lost its place has one.
type epoch struct {
	listed map[string]seen   // by key: what the list it began with held; the type is "LISTED"
	events map[string][]seen // by key, in order
}

// observer follows one kind and writes down what it sees.
type observer struct {
	name string // for messages
	kind *kind
	api  dynamic.ResourceInterface
	// nap, when not zero, makes the watch leave after that many events, stay away for a moment and resume.
	nap int
	// informer says that client-go's informer does the watching. It may list again without a word, so the judge lets
	// it skip states when it did; it may never go back.
	informer bool

	mu      sync.Mutex // guards the fields below
	epochs  []*epoch
	last    uint64 // the resource version up to which everything was seen
	resumes int    // how often a watch was opened after the first
	lists   int    // informers: how often everything was read anew
	started bool   // everything from now on will be seen
	ended   bool   // the object that closes the script was seen
	failure error  // an event that broke a rule on its own
}

// lastName is the name of the object created when all else is done: who has seen it has seen everything.
const lastName = "zz-last"

func (o *observer) run(ctx context.Context) {
	if o.informer {
		o.runInformer(ctx)
		return
	}
	for ctx.Err() == nil {
		if len(o.epochs) == 0 {
			o.relist(ctx)
			continue
		}
		err := o.watch(ctx)
		if isExpired(err) {
			o.relist(ctx)
			continue
		}
		o.resumes++
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// relist begins a new epoch with what is there now.
func (o *observer) relist(ctx context.Context) {
	_ = until(ctx, "list", func() error { // fails only when ctx ends, which the caller sees
		list, err := o.api.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		e := &epoch{listed: map[string]seen{}, events: map[string][]seen{}}
		o.mu.Lock()
		defer o.mu.Unlock()
		for i := range list.Items {
			key, event := o.describe("LISTED", &list.Items[i])
			e.listed[key] = event
			o.ended = o.ended || strings.HasSuffix(key, "/"+lastName)
		}
		o.epochs = append(o.epochs, e)
		o.started = true
		o.last = o.version(list.GetResourceVersion())
		return nil
	})
}

// watch opens a watch at the last version seen and follows it until it ends.
func (o *observer) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := o.api.Watch(ctx, metav1.ListOptions{
		ResourceVersion: strconv.FormatUint(o.last, 10), AllowWatchBookmarks: true,
	})
	if err != nil {
		return err
	}
	defer stream.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event, ok := <-stream.ResultChan():
			if !ok {
				return nil
			}
			if event.Type == watch.Error {
				return apierrors.FromObject(event.Object)
			}
			o.note(event)
		}
		if o.nap > 0 && n >= o.nap {
			return nil
		}
	}
}

// note writes an event of a raw watch down. Versions must rise: an event at or below the last one is a repetition.
func (o *observer) note(event watch.Event) {
	obj := event.Object.(*unstructured.Unstructured) // what the dynamic client makes of everything but errors
	o.mu.Lock()
	defer o.mu.Unlock()
	version := o.version(obj.GetResourceVersion())
	if event.Type == watch.Bookmark {
		o.check(version >= o.last, "a bookmark at %d after %d", version, o.last)
		o.last = version
		return
	}
	o.check(version > o.last, "%s %s/%s at %d after %d", event.Type, obj.GetNamespace(), obj.GetName(), version, o.last)
	o.last = version
	o.append(string(event.Type), obj)
}

// append adds an event to the current epoch; o.mu is held.
func (o *observer) append(typ string, obj *unstructured.Unstructured) {
	key, event := o.describe(typ, obj)
	if obj.GetName() == lastName {
		o.ended = true
		return
	}
	e := o.epochs[len(o.epochs)-1]
	e.events[key] = append(e.events[key], event)
}

func (o *observer) describe(typ string, obj *unstructured.Unstructured) (string, seen) {
	id := identity{o.kind, obj.GetNamespace(), obj.GetName()}
	return id.key(), seen{
		expected:    expected{typ, stepOf(id, obj), obj.GetDeletionTimestamp() != nil},
		fingerprint: fingerprint(id, obj),
	}
}

// check remembers the first broken rule; o.mu is held.
func (o *observer) check(ok bool, format string, args ...any) {
	if !ok && o.failure == nil {
		o.failure = fmt.Errorf(format, args...)
	}
}

func (o *observer) version(text string) uint64 {
	v, err := strconv.ParseUint(text, 10, 64)
	o.check(err == nil, "resource version %q is no number", text)
	return v
}

// runInformer lets client-go's informer list and watch.
func (o *observer) runInformer(ctx context.Context) {
	o.epochs = []*epoch{{listed: map[string]seen{}, events: map[string][]seen{}}}
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			o.countList()
			return o.api.List(ctx, opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			if opts.SendInitialEvents != nil && *opts.SendInitialEvents {
				o.countList()
			}
			return o.api.Watch(ctx, opts)
		},
	}
	informer := cache.NewSharedIndexInformer(source, &unstructured.Unstructured{}, 0, cache.Indexers{})
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { o.noteInformed("ADDED", obj) },
		UpdateFunc: func(old, obj any) {
			if old.(*unstructured.Unstructured).GetResourceVersion() != obj.(*unstructured.Unstructured).GetResourceVersion() {
				o.noteInformed("MODIFIED", obj)
			}
		},
		DeleteFunc: func(obj any) { o.noteInformed("DELETED", obj) },
	})
	if err != nil {
		panic(fmt.Sprintf("kube: a new informer refuses a handler: %v", err))
	}
	var running sync.WaitGroup
	running.Go(func() { informer.RunWithContext(ctx) })
	if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		o.mu.Lock()
		o.started = true
		o.mu.Unlock()
	}
	running.Wait()
}

func (o *observer) countList() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lists++
}

func (o *observer) noteInformed(typ string, obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.append(typ, obj.(*unstructured.Unstructured))
}

// waitStarted returns when the observer will miss nothing from now on.
func (o *observer) waitStarted(ctx context.Context) error {
	return o.wait(ctx, "the first list", &o.started)
}

// waitEnded returns when the object that closes the script was seen.
func (o *observer) waitEnded(ctx context.Context) error {
	return o.wait(ctx, "the last object", &o.ended)
}

func (o *observer) wait(ctx context.Context, what string, reached *bool) error {
	return until(ctx, o.name+": wait for "+what, func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !*reached {
			return errors.New("not seen yet")
		}
		return nil
	})
}

// summary says what the observer went through.
func (o *observer) summary() string {
	events := 0
	for _, e := range o.epochs {
		for _, seen := range e.events {
			events += len(seen)
		}
	}
	if o.informer {
		return fmt.Sprintf("%s: %d events, listed %d times", o.name, events, o.lists)
	}
	return fmt.Sprintf("%s: %d events, resumed %d times, listed %d times", o.name, events, o.resumes, len(o.epochs))
}
