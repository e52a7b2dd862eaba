package output

import (
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// MemberAdded is the answer to member add, of a member of this name and with these peer URLs as they were given.
func MemberAdded(answer *clientv3.MemberAddResponse, name, peerURLs string) Answer {
	r := (*pb.MemberAddResponse)(answer)
	return Answer{
		message: r,
		hexJSON: func() any {
			return struct {
				Header  *hexHeader   `json:"header"`
				Member  *hexMember   `json:"member"`
				Members []*hexMember `json:"members"`
			}{hexHeaderOf(r.Header), hexMemberOf(r.Member), hexMembersOf(r.Members)}
		},
		simple: func(w *page) {
			how := "added to"
			if r.GetMember().GetIsLearner() {
				how = "added as learner to"
			}
			changed(w, r.GetMember().GetID(), how, r.GetHeader())
			w.line("\nETCD_NAME=%q", name)
			w.line("ETCD_INITIAL_CLUSTER=%q", initialCluster(r, name))
			w.line("ETCD_INITIAL_ADVERTISE_PEER_URLS=%q", peerURLs)
			w.line("ETCD_INITIAL_CLUSTER_STATE=%q", "existing")
		},
	}
}

// initialCluster is the flag --initial-cluster that the new member is to be started with. The cluster learns its name only then.
func initialCluster(r *pb.MemberAddResponse, name string) string {
	var all []string
	for _, m := range r.GetMembers() {
		as := m.GetName()
		if m.GetID() == r.GetMember().GetID() {
			as = name
		}
		for _, url := range m.GetPeerURLs() {
			all = append(all, as+"="+url)
		}
	}
	return strings.Join(all, ",")
}

// MemberRemoved is the answer to member remove.
func MemberRemoved(r *clientv3.MemberRemoveResponse, id uint64) Answer {
	m := (*pb.MemberRemoveResponse)(r)
	return memberChanged(m, m.GetHeader(), m.GetMembers(), id, "removed from")
}

// MemberUpdated is the answer to member update.
func MemberUpdated(r *clientv3.MemberUpdateResponse, id uint64) Answer {
	m := (*pb.MemberUpdateResponse)(r)
	return memberChanged(m, m.GetHeader(), m.GetMembers(), id, "updated in")
}

// MemberPromoted is the answer to member promote.
func MemberPromoted(r *clientv3.MemberPromoteResponse, id uint64) Answer {
	m := (*pb.MemberPromoteResponse)(r)
	return memberChanged(m, m.GetHeader(), m.GetMembers(), id, "promoted in")
}

func memberChanged(message any, header *pb.ResponseHeader, members []*pb.Member, id uint64, how string) Answer {
	return Answer{
		message: message,
		hexJSON: func() any { return hexMembers(header, members) },
		simple:  func(w *page) { changed(w, id, how, header) },
	}
}

func changed(w *page, id uint64, how string, header *pb.ResponseHeader) {
	w.line("Member %16x %s cluster %16x", id, how, header.GetClusterId())
}

var memberColumns = []column[*pb.Member]{
	{"ID", func(m *pb.Member) string { return fmt.Sprintf("%x", m.GetID()) }},
	{"Status", func(m *pb.Member) string {
		if m.GetName() == "" { // a member tells its name when it starts
			return "unstarted"
		}
		return "started"
	}},
	{"Name", (*pb.Member).GetName},
	{"Peer Addrs", func(m *pb.Member) string { return strings.Join(m.GetPeerURLs(), ",") }},
	{"Client Addrs", func(m *pb.Member) string { return strings.Join(m.GetClientURLs(), ",") }},
	{"Is Learner", func(m *pb.Member) string { return strconv.FormatBool(m.GetIsLearner()) }},
}

// Members is the answer to member list.
func Members(r *clientv3.MemberListResponse) Answer {
	m := (*pb.MemberListResponse)(r)
	rows := func() ([]string, [][]string) { return cells(memberColumns, m.GetMembers()) }
	return Answer{
		message: m,
		hexJSON: func() any { return hexMembers(m.GetHeader(), m.GetMembers()) },
		simple:  func(w *page) { w.rows(rows()) },
		table:   rows,
		fields: func(w *page) {
			w.header(m.GetHeader())
			for _, member := range m.GetMembers() {
				w.member("ID", member.GetID())
				w.quoted("Name", member.GetName())
				for _, url := range member.GetPeerURLs() {
					w.quoted("PeerURL", url)
				}
				for _, url := range member.GetClientURLs() {
					w.quoted("ClientURL", url)
				}
				w.field("IsLearner", member.GetIsLearner())
				w.line("")
			}
		},
	}
}

// hexHeader and hexMember are a header and a member whose ids are hexadecimal in json.
type (
	hexHeader struct {
		ClusterID string `json:"cluster_id"`
		MemberID  string `json:"member_id"`
		Revision  int64  `json:"revision,omitempty"`
		RaftTerm  uint64 `json:"raft_term,omitempty"`
	}
	hexMember struct {
		ID         string   `json:"ID"`
		Name       string   `json:"name,omitempty"`
		PeerURLs   []string `json:"peerURLs,omitempty"`
		ClientURLs []string `json:"clientURLs,omitempty"`
		IsLearner  bool     `json:"isLearner,omitempty"`
	}
)

func hexHeaderOf(h *pb.ResponseHeader) *hexHeader {
	if h == nil {
		return nil
	}
	return &hexHeader{fmt.Sprintf("%x", h.ClusterId), fmt.Sprintf("%x", h.MemberId), h.Revision, h.RaftTerm}
}

func hexMemberOf(m *pb.Member) *hexMember {
	if m == nil {
		return nil
	}
	return &hexMember{fmt.Sprintf("%x", m.ID), m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner}
}

func hexMembersOf(members []*pb.Member) []*hexMember {
	all := make([]*hexMember, len(members))
	for i, m := range members {
		all[i] = hexMemberOf(m)
	}
	return all
}

func hexMembers(header *pb.ResponseHeader, members []*pb.Member) any {
	return struct {
		Header  *hexHeader   `json:"header"`
		Members []*hexMember `json:"members"`
	}{hexHeaderOf(header), hexMembersOf(members)}
}
