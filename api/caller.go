package api

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"holdfast/login"
	"holdfast/metrics"
	"holdfast/server"
)

// nameIgnored is what a client is told that shows a certificate with a name to the JSON gateway. The text is etcd's.
const nameIgnored = "CommonName of client sending a request against gateway will be ignored and not used as expected"

// refuseNames stands before the JSON gateway. A client whose certificate stands for a user at the gRPC door would be nobody
// here: it is told so before it wonders.
func (a *API) refuseNames(gateway http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && a.cfg.Logins.CertificateNames() && a.member.Auth().Enabled() {
			if name := verifiedName(r.TLS); name != nil && *name != "" {
				http.Error(w, nameIgnored, http.StatusBadRequest)
				return
			}
		}
		gateway.ServeHTTP(w, r)
	})
}

// fromGateway is in the metadata of every call that the JSON gateway makes for a client. The certificate that such a call
// comes with is not the client's.
const fromGateway = "grpcgateway-accept"

// withCaller gives a context in which the member can find out who asks, as often as it wants to know: on a stream, whose
// user may be gone after a while, anew for each request.
func (a *API) withCaller(ctx context.Context) context.Context {
	if c := credentialsOf(ctx); c != (login.Credentials{}) {
		return a.withCredentials(ctx, c)
	}
	return ctx
}

func (a *API) withCredentials(ctx context.Context, c login.Credentials) context.Context {
	return server.WithIdentity(ctx, func() (server.Identity, error) { return a.cfg.Logins.Identify(ctx, a.member, c) })
}

// whoAsks tells who makes a call.
func (a *API) whoAsks(ctx context.Context) (server.Identity, error) {
	return a.cfg.Logins.Identify(ctx, a.member, credentialsOf(ctx))
}

// credentialsOf are what a call brings along. As with etcd a token counts before a certificate, and one in the field of gRPC
// before one in that of HTTP.
func credentialsOf(ctx context.Context) login.Credentials {
	for _, field := range []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		if v := metadata.ValueFromIncomingContext(ctx, field); len(v) > 0 {
			return login.Credentials{Token: new(strings.TrimPrefix(v[0], bearer))}
		}
	}
	return login.Credentials{CommonName: commonName(ctx)}
}

// bearer may stand in front of a token.
const bearer = "Bearer "

// commonName is that of the certificate which the client has shown and the connection has verified; nil is none.
func commonName(ctx context.Context) *string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(metadata.ValueFromIncomingContext(ctx, fromGateway)) > 0 {
		return nil
	}
	return verifiedName(&info.State)
}

// verifiedName is the common name of the first verified certificate; nil where there is none.
func verifiedName(state *tls.ConnectionState) *string {
	for _, chain := range state.VerifiedChains {
		if len(chain) > 0 {
			return &chain[0].Subject.CommonName
		}
	}
	return nil
}

// sampleLogIns shows who has come to log in.
func (a *API) sampleLogIns(s *metrics.Sample) {
	if a.cfg.Logins == nil {
		return
	}
	st := a.cfg.Logins.Stats()
	s.Set(metrics.Tokens, float64(st.Tokens))
	s.Set(metrics.LogIns, float64(st.Accepted), "accepted")
	s.Set(metrics.LogIns, float64(st.Refused), "refused")
	s.Set(metrics.PasswordChecks, float64(st.Checks))
}
