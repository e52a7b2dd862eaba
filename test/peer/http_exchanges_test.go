package peer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// listen is how long an answer that does not end is listened to. Both servers send what there is within some milliseconds.
const listen = 2 * time.Second

func streamed(path, body string) exchange {
	return exchange{method: "POST", path: path, body: body, for_: listen}
}

// fewStreams leaves out the answers without end but for two: listening takes its time.
func fewStreams(list []exchange) []exchange {
	streams := 0
	return slices.DeleteFunc(list, func(e exchange) bool {
		if e.for_ > 0 {
			streams++
		}
		return e.for_ > 0 && streams > 2
	})
}

// gatewayExchanges are requests in JSON: each call in its ordinary form, then what can be wrong with them.
func gatewayExchanges() []exchange {
	list := []exchange{
		post("/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`),
		post("/v3/kv/put", `{"key":"Zm9v","value":"YmF6","prev_kv":true}`),
		post("/v3/kv/put", `{"key":"Zm9v","value":"YmF6","prevKv":true,"lease":0}`),
		post("/v3/kv/put", `{"key":"_-8=","value":""}`),
		post("/v3/kv/put", `{"key":"Zm9v","value":"YmF6","nobody":{"knows":[1,2]}}`),
		post("/v3/kv/range", `{"key":"Zm9v"}`),
		post("/v3beta/kv/range", `{"key":"Zm9v"}`),
		post("/v3alpha/kv/range", `{"key":"Zm9v"}`),
		post("/v3/kv/range", `{"key":"AA==","range_end":"AA==","limit":1,"sort_order":"DESCEND","sort_target":"KEY"}`),
		post("/v3/kv/range", `{"key":"AA==","range_end":"AA==","sort_order":2,"sort_target":"1"}`),
		post("/v3/kv/range", `{"key":"AA==","range_end":"AA==","sort_order":"NOBODY"}`),
		post("/v3/kv/range", `{"key":"AA==","rangeEnd":"AA==","countOnly":true,"revision":"2"}`),
		post("/v3/kv/range", `{"key":"AA==","revision":99}`),
		post("/v3/kv/range", `{"key":"AA==","serializable":true,"keys_only":true}`),
		post("/v3/kv/txn", `{"compare":[{"key":"Zm9v","target":"VERSION","result":"GREATER","version":"1"}],`+
			`"success":[{"request_range":{"key":"Zm9v"}},{"request_put":{"key":"YQ==","value":"MQ=="}},`+
			`{"request_txn":{"success":[{"request_delete_range":{"key":"YQ=="}}]}}],"failure":[]}`),
		post("/v3/kv/txn", `{"success":[{"requestDeleteRange":{"key":"YQ==","prevKv":true}}]}`),
		post("/v3/kv/txn", `{"success":[{}]}`),
		post("/v3/kv/txn", `{}`),
		post("/v3/kv/deleterange", `{"key":"X_8","prev_kv":true}`),
		post("/v3/kv/compaction", `{"revision":"3","physical":true}`),
		post("/v3/kv/compaction", `{"revision":3}`),
		post("/v3/kv/range", `{"key":"Zm9v","revision":1}`),
		post("/v3/lease/grant", `{"TTL":"600","ID":"7"}`),
		post("/v3/lease/grant", `{"TTL":600,"ID":7}`),
		post("/v3/lease/grant", `{"TTL":"99999999999"}`),
		post("/v3/kv/put", `{"key":"bGVhc2Vk","lease":"7"}`),
		post("/v3/kv/put", `{"key":"bGVhc2Vk","lease":"8"}`),
		post("/v3/lease/timetolive", `{"ID":"7","keys":true}`),
		post("/v3/kv/lease/timetolive", `{"ID":"9","keys":true}`),
		post("/v3/lease/leases", `{}`),
		post("/v3/kv/lease/leases", ``),
		post("/v3/lease/keepalive", `{"ID":"7"}`),
		post("/v3/lease/keepalive", `{"ID":"7"}{"ID":"8"} {"ID":"7"}`),
		post("/v3/lease/keepalive", `{"ID":"no number"}`),
		post("/v3/lease/keepalive", ``),
		post("/v3/lease/revoke", `{"ID":"7"}`),
		post("/v3/kv/lease/revoke", `{"ID":"7"}`),
		streamed("/v3/watch", `{"create_request":{"key":"Zm9v","start_revision":"4","prev_kv":true}}`),
		streamed("/v3/watch", `{"create_request":{"key":"Zm9v","start_revision":1}}`),
		streamed("/v3/watch", `{"create_request":{"key":"Zm9v","watch_id":"5"}}{"create_request":{"key":"Zm9v","watch_id":"5"}}`+"\n"+
			`{"cancel_request":{"watch_id":5}} {"cancel_request":{"watch_id":"6"}}`),
		streamed("/v3/watch", `{"create_request":{"key":"Zm9v","filters":["NOPUT",1]}}`),
		streamed("/v3/watch", `{"create_request":{"key":"Zm9v","filters":["NOBODY"]}}`),
		streamed("/v3/watch", `{"create_request":{"key":"Zm9v"}} nothing`),
		streamed("/v3/watch", `{}`),
		streamed("/v3/watch", ``),
		streamed("/v3/watch", `nothing`),
		post("/v3/cluster/member/list", `{}`),
		post("/v3/cluster/member/list", `{"linearizable":true}`),
		post("/v3/cluster/member/update", `{"ID":"1","peerURLs":["http://127.0.0.1:12"]}`),
		post("/v3/cluster/member/remove", `{"ID":"1"}`),
		post("/v3/cluster/member/promote", `{"ID":"1"}`),
		post("/v3/cluster/member/add", `{"peerURLs":["nothing"]}`),
		post("/v3/maintenance/status", `{}`),
		post("/v3/maintenance/alarm", `{"action":"GET","memberID":"0","alarm":"NONE"}`),
		post("/v3/maintenance/alarm", `{"action":"ACTIVATE","memberID":"1","alarm":"NOSPACE"}`),
		post("/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`),
		get("/health"), get("/readyz"), get("/health?exclude=NOSPACE"),
		post("/v3/maintenance/status", `{}`),
		post("/v3/maintenance/alarm", `{"action":2,"memberID":1,"alarm":1}`),
		post("/v3/maintenance/alarm", `{"action":"EXPLODE"}`),
		post("/v3/maintenance/defragment", `{}`),
		post("/v3/maintenance/hashkv", `{"revision":"0"}`),
		post("/v3/maintenance/hashkv", `{"revision":"99"}`),
		post("/v3/maintenance/hash", `{}`),
		post("/v3/maintenance/transfer-leadership", `{"targetID":"1"}`),
		post("/v3/maintenance/downgrade", `{"action":"VALIDATE","version":"1.2"}`),
		post("/v3/maintenance/downgrade", `{"action":"CANCEL"}`),

		{method: "GET", path: "/v3/kv/range"},
		{method: "PUT", path: "/v3/kv/put", body: `{"key":"Zm9v"}`},
		{method: "DELETE", path: "/v3/kv/put"},
		{method: "OPTIONS", path: "/v3/kv/put"},
		{method: "HEAD", path: "/v3/kv/put"},
		{method: "PATCH", path: "/version"},
		post("/v3/kv/nobody", `{}`), post("/v3/", `{}`), post("/v3", `{}`), get("/v3/"), post("/v4/kv/put", `{}`), post("/v3/kv//put", `{}`),
		post("/v3/kv/put/", `{}`), post("/v3/kv/%70ut", `{"key":"Zm9v"}`), post("//v3/kv/put", `{}`), post("/v3/kv/../kv/put", `{}`),
		post("/v3/kv/put?key=Zm9v", `{}`), post("/v3/kv/range:custom", `{}`),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Content-Type: application/x-www-form-urlencoded"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Content-Type: text/plain; Accept: application/xml"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Content-Type: application/grpc"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("X-HTTP-Method-Override: GET"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("X-HTTP-Method-Override: GET; Content-Type: application/x-www-form-urlencoded"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Grpc-Timeout: 5S"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Grpc-Timeout: five"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Grpc-Metadata-Hasleader: true"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Grpc-Metadata-Client-Api-Version: 3.7"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Grpc-Metadata-Some-Bin: not base64!"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Authorization: nobody.1"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Origin: http://anywhere.example"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Host: anywhere.example"),

		get("/debug/nothing"), get("/debug/requests"), get("/debug/events"), get("/members"), get("/raft"),
		{method: "POST", path: "/debug/vars"}, {method: "HEAD", path: "/metrics"},
	}
	return slices.Concat(list, malformed(), large(), accounts())
}

// malformed are bodies that are not what they should be.
func malformed() []exchange {
	var list []exchange
	for _, body := range []string{
		``, ` `, `null`, `true`, `7`, `"text"`, `[]`, `[{}]`, `{`, `}`, `{"key"`, `{"key":}`, `{"key":"Zm9v"`, `{"key":"Zm9v",}`, `{"key":"Zm9v"}}`,
		`{"key":"Zm9v"} {"key":"YQ=="}`, `{"key":"Zm9v"}rest`, `{"key":"Zm9v","key":"YQ=="}`, `{"key":"Zm9v","limit":"1","limit":2}`,
		`{"key":7}`, `{"key":null}`, `{"key":{}}`, `{"key":[]}`, `{"key":true}`, `{"key":"?"}`, `{"key":"Zm9"}`, `{"key":"Zm9v=="}`, `{"key":"Zm 9v"}`,
		`{"key":"Zm9v","limit":1.0}`, `{"key":"Zm9v","limit":1e0}`, `{"key":"Zm9v","limit":1.5}`, `{"key":"Zm9v","limit":"1.5"}`,
		`{"key":"Zm9v","limit":"x"}`, `{"key":"Zm9v","limit":""}`, `{"key":"Zm9v","limit":-1}`, `{"key":"Zm9v","limit":9223372036854775808}`,
		`{"key":"Zm9v","limit":"-9223372036854775808"}`, `{"key":"Zm9v","limit":1e400}`, `{"key":"Zm9v","limit":NaN}`, `{"key":"Zm9v","limit":" 1"}`,
		`{"key":"Zm9v","serializable":"true"}`, `{"key":"Zm9v","serializable":1}`, `{"key":"Zm9v","sort_order":[]}`, `{"key":"Zm9v","sort_order":9}`,
		`{"key":"Zm9v","header":{"revision":1}}`, "{\"key\":\"\xff\xfe\"}", "{\"\xff\":1}", `{"\u006bey":"\u005am9v"}`, "\ufeff{}", `{"key":"\ud800"}`,
		"{\"key\":\"Zm9v\x00\"}", "{\"key\":\"Zm9v\n\"}", `{'key':'Zm9v'}`, `{key:"Zm9v"}`, `{"key":"Zm9v"/**/}`,
		strings.Repeat(`[`, 20000), strings.Repeat(`{"key":`, 20000), `{"nobody":` + strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000) + `}`,
		`{"nobody":` + strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000) + `}`,
	} {
		list = append(list, post("/v3/kv/range", body))
	}
	nested := `{"request_put":{"key":"Zm9v"}}`
	for range 60 {
		nested = `{"request_txn":{"success":[` + nested + `]}}`
	}
	return append(list, post("/v3/kv/txn", `{"success":[`+nested+`]}`))
}

// large are requests around the bounds of gRPC.
func large() []exchange {
	put := func(bytes int) exchange {
		return post("/v3/kv/put", `{"key":"Zm9v","value":"`+strings.Repeat("YWJj", bytes/3)+`"}`)
	}
	many := func(n int) exchange {
		return post("/v3/kv/txn", `{"success":[`+strings.TrimSuffix(strings.Repeat(`{"request_range":{"key":"Zm9v"}},`, n), ",")+`]}`)
	}
	return []exchange{many(128), many(129), many(20000), put(1 << 20), put(1572864 - 60), put(1600000), put(2 << 20), put(2900000)}
}

// accounts is a small life with users, and how tokens are given.
func accounts() []exchange {
	return []exchange{
		post("/v3/auth/status", `{}`),
		post("/v3/auth/enable", `{}`),
		post("/v3/auth/authenticate", `{"name":"root","password":"x"}`),
		post("/v3/auth/user/add", `{"name":"root","password":"secret"}`),
		post("/v3/auth/user/add", `{"name":"root","password":"secret"}`),
		post("/v3/auth/user/add", `{"name":"","password":"secret"}`),
		post("/v3/auth/user/add", `{"name":"guest","options":{"no_password":true}}`),
		post("/v3/auth/user/list", `{}`),
		post("/v3/auth/user/get", `{"name":"root"}`),
		post("/v3/auth/user/get", `{"name":"nobody"}`),
		post("/v3/auth/role/add", `{"name":"root"}`),
		post("/v3/auth/role/add", `{"name":"r"}`),
		post("/v3/auth/role/grant", `{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}`),
		post("/v3/auth/role/grant", `{"name":"r","perm":{"permType":"NOBODY","key":"YQ=="}}`),
		post("/v3/auth/role/get", `{"role":"r"}`),
		post("/v3/auth/role/list", `{}`),
		post("/v3/auth/user/grant", `{"user":"root","role":"root"}`),
		post("/v3/auth/user/grant", `{"user":"guest","role":"nobody"}`),
		post("/v3/auth/user/changepw", `{"name":"nobody","password":"x"}`),
		post("/v3/auth/role/revoke", `{"role":"r","key":"YQ==","range_end":"Yg=="}`),
		post("/v3/auth/role/delete", `{"role":"r"}`),
		post("/v3/auth/user/revoke", `{"name":"guest","role":"r"}`),
		post("/v3/auth/user/delete", `{"name":"guest"}`),
		post("/v3/auth/enable", `{}`),
		post("/v3/kv/range", `{"key":"Zm9v"}`),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Authorization: nobody.1"),
		post("/v3/kv/range", `{"key":"Zm9v"}`).with("Authorization: Bearer nobody.1"),
		post("/v3/auth/authenticate", `{"name":"root","password":"wrong"}`),
		post("/v3/auth/authenticate", `{"name":"nobody","password":"wrong"}`),
		post("/v3/auth/user/list", `{}`),
		post("/v3/auth/status", `{}`),
		streamed("/v3/watch", `{"create_request":{"key":"Zm9v"}}`),
		post("/v3/lease/keepalive", `{"ID":"7"}`),
		get("/health"), get("/livez"), get("/readyz?verbose"), get("/version"),
	}
}

// healthExchanges ask a member that is well how it is, in every way.
var healthExchanges = func() (list []exchange) {
	for _, path := range []string{"/health", "/version", "/livez", "/readyz", "/readyz/non_learner", "/debug/vars", "/metrics"} {
		for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS", "NOBODY"} {
			if path != "/metrics" || method == "OPTIONS" {
				list = append(list, exchange{method: method, path: path})
			}
		}
	}
	for _, path := range []string{
		"/version", "/version/", "/version?x", "/health", "/health/", "/health?serializable=true", "/health?serializable=maybe", "/health?exclude=NOSPACE",
		"/health?exclude=", "/health?exclude=NOBODY&exclude=CORRUPT", "/health?%zz", "/livez", "/livez/", "/livez?verbose", "/livez/serializable_read?verbose",
		"/livez/linearizable_read", "/livez?exclude=serializable_read", "/livez?exclude=serializable_read&verbose=1", "/readyz", "/readyz?verbose=false",
		"/readyz?verbose&exclude=non_learner", "/readyz?exclude=nobody", "/readyz/data_corruption?verbose", "/readyz/serializable_read", "/readyz/linearizable_read",
		"/readyz/non_learner?verbose", "/readyz/nobody", "/", "/nobody", "/debug/pprof/", "/debug/pprof/cmdline", "/v2/keys/foo", "/proxy/health", "/proxy/metrics",
	} {
		list = append(list, get(path))
	}
	for _, kind := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
		list = append(list, post("/v3/maintenance/alarm", fmt.Sprintf(`{"action":"ACTIVATE","memberID":"1","alarm":%q}`, kind)))
		for _, path := range []string{
			"/health", "/health?serializable=true", "/health?exclude=NOSPACE", "/health?exclude=NOSPACE&exclude=CORRUPT",
			"/livez", "/readyz", "/readyz?verbose", "/readyz?exclude=data_corruption", "/readyz/data_corruption",
		} {
			list = append(list, get(path))
		}
		list = append(list, post("/v3/maintenance/alarm", fmt.Sprintf(`{"action":"DEACTIVATE","memberID":"1","alarm":%q}`, kind)))
	}
	return list
}()

// closedExchanges meet a member without a gateway.
var closedExchanges = []exchange{
	post("/v3/kv/range", `{"key":"Zm9v"}`), post("/v3beta/kv/range", `{"key":"Zm9v"}`), get("/v3/"), get("/version"), get("/health"),
	{method: "OPTIONS", path: "/v3/kv/put"},
}

// restrictedExchanges meet a member with lists of hosts and origins.
var restrictedExchanges = func() (list []exchange) {
	for _, head := range []string{
		"Host: good.example", "Host: good.example:2379", "Host: GOOD.example", "Host: bad.example", "Host: bad.example:1", "Host: [::1]", "Host: [::1]:1",
		"Origin: https://ours.example:443", "Origin: https://OURS.example:443", "Origin: https://theirs.example", "Origin: http://ours.example:80", "Origin: null",
		"Host: bad.example; Origin: https://ours.example:443",
	} {
		for _, e := range []exchange{get("/version"), get("/health"), post("/v3/kv/range", `{"key":"Zm9v"}`), {method: "OPTIONS", path: "/v3/kv/put"}, get("/nobody")} {
			list = append(list, e.with(head))
		}
	}
	return list
}()
