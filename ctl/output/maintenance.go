package output

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Alarms is the answer to alarm list and alarm disarm.
func Alarms(answer *clientv3.AlarmResponse) Answer {
	r := (*pb.AlarmResponse)(answer)
	return Answer{
		message: r,
		simple: func(w *page) {
			for _, alarm := range r.GetAlarms() {
				w.line("%+v", alarm)
			}
		},
		fields: func(w *page) {
			w.header(r.GetHeader())
			for _, alarm := range r.GetAlarms() {
				w.member("MemberID", alarm.GetMemberID())
				w.field("AlarmType", alarm.GetAlarm())
				w.line("")
			}
		},
	}
}

// LeaderMoved is the answer to move-leader.
func LeaderMoved(r *clientv3.MoveLeaderResponse, from, to uint64) Answer {
	return Answer{
		message: (*pb.MoveLeaderResponse)(r),
		simple:  func(w *page) { w.line("Leadership transferred from %x to %x", from, to) },
	}
}

// Downgrade is the answer to an action of the downgrade: validate, enable or cancel.
func Downgrade(answer *clientv3.DowngradeResponse, action string) Answer {
	r := (*pb.DowngradeResponse)(answer)
	return Answer{
		message: r,
		simple:  func(w *page) { w.line("Downgrade %s success, cluster version %s", action, r.GetVersion()) },
	}
}
