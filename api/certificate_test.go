package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"holdfast/server"
)

// TestCertificateNames: the common name of a verified certificate stands for a user, unless a token comes along or the
// gateway made the call.
func TestCertificateNames(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		u := withUsers(t, s)
		certificate := func(name string) context.Context {
			info := credentials.TLSInfo{}
			info.State.VerifiedChains = [][]*x509.Certificate{{}, {{Subject: pkix.Name{CommonName: name}}}}
			return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: info})
		}
		plain := func(ctx context.Context, fields ...string) context.Context {
			return metadata.NewIncomingContext(ctx, metadata.Pairs(fields...))
		}
		shown := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{}}) // TLS, and no verified certificate
		revision := u.member.Auth().Revision()
		for _, test := range []struct {
			name string
			ctx  context.Context
			want server.Identity
		}{
			{"certificate", plain(certificate("alice")), server.Identity{User: "alice", Revision: revision}},
			{"certificate without metadata", certificate("alice"), server.Identity{User: "alice", Revision: revision}},
			{"certificate without name", plain(certificate("")), server.Identity{Revision: revision}},
			{"token and certificate", plain(certificate("alice"), "token", u.token("bob")), server.Identity{User: "bob", Revision: revision}},
			{"through the gateway", plain(certificate("alice"), fromGateway, "application/json"), server.Identity{}},
			{"no certificate", plain(shown), server.Identity{}},
		} {
			if who, err := u.api.whoAsks(test.ctx); err != nil || who != test.want {
				t.Errorf("%s: %v, %v", test.name, who, err)
			}
		}
	})
}

// TestGatewayRefusesNames: a certificate that would stand for a user is refused at the JSON gateway, and there only while it
// would.
func TestGatewayRefusesNames(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		h := s.api.refuseNames(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
		ask := func(chains ...[]*x509.Certificate) (int, string) {
			q := httptest.NewRequest(http.MethodPost, "https://member/v3/kv/range", nil)
			q.TLS = &tls.ConnectionState{VerifiedChains: chains}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, q)
			return w.Code, w.Body.String()
		}
		named := []*x509.Certificate{{Subject: pkix.Name{CommonName: "alice"}}}
		if code, _ := ask(named); code != http.StatusTeapot {
			t.Errorf("with authentication off: %d", code)
		}
		withUsers(t, s)
		if code, body := ask(nil, named); code != http.StatusBadRequest || body != nameIgnored+"\n" {
			t.Errorf("%d %q", code, body)
		}
		if code, _ := ask([]*x509.Certificate{{}}); code != http.StatusTeapot {
			t.Errorf("without a name: %d", code)
		}
		if code, _ := ask(); code != http.StatusTeapot {
			t.Errorf("without a certificate: %d", code)
		}
	})
}

// TestPromotionByOtherMembers: a member that passes a promotion on shows its client's token, or has a certificate that counts; the peer port
// is no way around the users.
func TestPromotionByOtherMembers(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		u := withUsers(t, s)
		for _, test := range []struct {
			token  string
			proven bool
			code   int
		}{
			{"", false, http.StatusForbidden},
			{"worth nothing", false, http.StatusInternalServerError}, // it may be known here in a moment
			{u.token("bob"), false, http.StatusForbidden},
			{u.token("root"), false, http.StatusNotFound}, // there is no such member
			{bearer + u.token("root"), false, http.StatusNotFound},
			{"", true, http.StatusNotFound},
		} {
			q := httptest.NewRequest(http.MethodPost, "/members/promote/"+"77", nil)
			q.TLS = &tls.ConnectionState{}
			if test.proven {
				q.TLS.VerifiedChains = [][]*x509.Certificate{{{}}}
			}
			if test.token != "" {
				q.Header.Set("Authorization", test.token)
			}
			w := httptest.NewRecorder()
			u.api.web.Peers().ServeHTTP(w, q)
			if w.Code != test.code {
				t.Errorf("%d %s, want %d", w.Code, w.Body, test.code)
			}
		}
	})
}
