package kube

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// expiry asks for what a compaction took away and returns the answers as text that must be equal on both sides: a
// list that is continued from a page before the compaction, the list that the refusal offers to continue with, and a
// watch from a revision before it. It uses the kind whose requests reach the store.
func (s *side) expiry(ctx context.Context) ([]string, error) {
	id := identity{kindOf(true), namespaces[0], "zz-expiry"}
	api := s.client.Resource(id.kind.resource).Namespace(id.namespace)
	first, err := api.List(ctx, metav1.ListOptions{Limit: 5})
	if err != nil {
		return nil, fmt.Errorf("list the first page: %w", err)
	}
	obj, err := api.Create(ctx, id.content(1), metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", id, err)
	}
	for n := 2; n < 5; n++ {
		next := id.content(n)
		next.SetResourceVersion(obj.GetResourceVersion())
		if obj, err = api.Update(ctx, next, metav1.UpdateOptions{FieldManager: fieldManager}); err != nil {
			return nil, fmt.Errorf("update %s: %w", id, err)
		}
	}
	if err := s.compact(ctx, 0); err != nil {
		return nil, err
	}
	var answers []string
	_, err = api.List(ctx, metav1.ListOptions{Limit: 5, Continue: first.GetContinue()})
	answers = append(answers, "continued list: "+describeError(err))
	var refused apierrors.APIStatus
	if errors.As(err, &refused) {
		rest, err := api.List(ctx, metav1.ListOptions{Continue: refused.Status().Continue})
		if err != nil {
			return nil, fmt.Errorf("continue without the old version: %w", err)
		}
		for i := range rest.Items {
			answers = append(answers, "rest: "+rest.Items[i].GetName())
		}
	}
	answer, err := watchOnce(ctx, s, id.kind, first.GetResourceVersion())
	if err != nil {
		return nil, err
	}
	return append(answers, "watch: "+answer), nil
}

// watchOnce opens a watch and describes its first event.
func watchOnce(ctx context.Context, s *side, k *kind, version string) (string, error) {
	stream, err := s.client.Resource(k.resource).Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		return "refused: " + describeError(err), nil
	}
	defer stream.Stop()
	select {
	case event, ok := <-stream.ResultChan():
		switch {
		case !ok:
			return "ended", nil
		case event.Type == watch.Error:
			return "event: " + describeError(apierrors.FromObject(event.Object)), nil
		default:
			return "event: " + string(event.Type), nil
		}
	case <-time.After(10 * time.Second):
		return "", fmt.Errorf("no event from a watch at the old version %s for 10 s", version)
	}
}

// kindOf returns a kind that is or is not served without the watch cache.
func kindOf(direct bool) *kind {
	for _, k := range kinds {
		if k.direct == direct {
			return k
		}
	}
	panic("kube: the kinds are all alike")
}

var number = regexp.MustCompile(`[0-9]+`)

// describeError writes a refusal without its numbers.
func describeError(err error) string {
	var refused apierrors.APIStatus
	if !errors.As(err, &refused) {
		return fmt.Sprintf("%v", err)
	}
	st := refused.Status()
	return fmt.Sprintf("%d %s %s (continue: %t)", st.Code, st.Reason, number.ReplaceAllString(st.Message, "N"), st.Continue != "")
}
