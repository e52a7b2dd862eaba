package ctl

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

// asksAt answers the nth question after n milliseconds, with the nth error.
type asksAt struct {
	clientv3.KV
	asked int
	errs  []error
}

func (a *asksAt) Get(ctx context.Context, _ string, _ ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	a.asked++
	select {
	case <-time.After(time.Duration(a.asked) * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var err error
	if a.asked <= len(a.errs) {
		err = a.errs[a.asked-1]
	}
	return &clientv3.GetResponse{}, err
}

// What makes an endpoint unhealthy, and what does not; questions are repeated until one fails.
func TestProbe(t *testing.T) {
	denied, lost := error(rpctypes.ErrPermissionDenied), errors.New("lost")
	raised := func(kinds ...pb.AlarmType) []*pb.AlarmMember {
		var all []*pb.AlarmMember
		for _, kind := range kinds {
			all = append(all, &pb.AlarmMember{Alarm: kind})
		}
		return all
	}
	for what, test := range map[string]struct {
		repeat  int
		errs    []error
		alarms  []*pb.AlarmMember
		noAlarm error
		want    output.Health
	}{
		"healthy": {repeat: 1, want: output.Health{Health: true, Took: "1ms"}},
		"denied":  {repeat: 1, errs: []error{denied}, want: output.Health{Health: true, Took: "1ms"}},
		"lost":    {repeat: 1, errs: []error{lost}, want: output.Health{Took: "1ms", Error: "lost"}},
		"often":   {repeat: 100, want: output.Health{Health: true, Took: "100ms", Repeat: 100, P50: "50ms", P99: "99ms"}},
		"in time": {repeat: 9, errs: []error{nil, nil, lost}, want: output.Health{Took: "3ms", Error: "lost"}},
		"silent":  {repeat: 999, want: output.Health{Took: "200ms", Error: "context deadline exceeded"}},
		"full": {repeat: 1, alarms: raised(pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT, 9),
			want: output.Health{Took: "1ms", Error: "Active Alarm(s): NOSPACE CORRUPT UNKNOWN "}},
		"no list": {repeat: 1, noAlarm: lost, want: output.Health{Took: "1ms", Error: "Unable to fetch the alarm list"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := prober{kv: &asksAt{errs: test.errs}, timeout: 200 * time.Millisecond, now: time.Now,
				alarms: func(context.Context) (*clientv3.AlarmResponse, error) {
					return &clientv3.AlarmResponse{Alarms: test.alarms}, test.noAlarm
				}}
			test.want.Endpoint = "here"
			if got := p.probe(t.Context(), "here", test.repeat); got != test.want {
				t.Errorf("%s: %+v, want %+v", what, got, test.want)
			}
		})
	}
}
