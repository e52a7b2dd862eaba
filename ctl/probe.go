package ctl

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/load"
	"holdfast/ctl/output"
)

// healthKey is the key that a probe reads. Whether it exists does not matter, nor whether the user may read it: the answer
// has been agreed on by the cluster either way.
const healthKey = "health"

// prober asks one endpoint whether the cluster behind it serves.
type prober struct {
	kv      clientv3.KV
	alarms  func(context.Context) (*clientv3.AlarmResponse, error)
	timeout time.Duration // of one question
	now     func() time.Time
	opts    []clientv3.OpOption // of the question
}

// probe asks as many times as repeat says, and then whether an alarm is raised. The first question that fails ends it.
func (p prober) probe(ctx context.Context, endpoint string, repeat int) output.Health {
	h := output.Health{Endpoint: endpoint}
	times := make([]time.Duration, 0, repeat)
	for range repeat {
		took, err := p.ask(ctx)
		times = append(times, took)
		h.Took = took.String()
		if err != nil {
			h.Error = err.Error()
			return h
		}
	}
	if repeat > 1 {
		slices.Sort(times)
		h.Repeat, h.P50, h.P99 = repeat, load.Quantile(times, 0.5).String(), load.Quantile(times, 0.99).String()
	}
	h.Error = p.alarmed(ctx)
	h.Health = h.Error == ""
	return h
}

// ask puts one question and says what the answer took.
func (p prober) ask(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	start := p.now()
	_, err := p.kv.Get(ctx, healthKey, p.opts...)
	took := p.now().Sub(start)
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		err = nil
	}
	return took, err
}

// alarmed says which alarms are raised, in etcd's words; nothing if none is.
func (p prober) alarmed(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	answer, err := p.alarms(ctx)
	if err != nil {
		return "Unable to fetch the alarm list"
	}
	if len(answer.Alarms) == 0 {
		return ""
	}
	var text strings.Builder
	text.WriteString("Active Alarm(s): ")
	for _, alarm := range answer.Alarms {
		switch alarm.Alarm {
		case pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT:
			text.WriteString(alarm.Alarm.String() + " ")
		default:
			text.WriteString("UNKNOWN ")
		}
	}
	return text.String()
}
