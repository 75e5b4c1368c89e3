package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"

	"shareai/internal/enrol"
	"shareai/internal/tunnel"
)

const (
	enrolTime      = 30 * time.Second
	maxEnrolAnswer = 64 << 10
	maxEnrolTries  = 10 // when the gateway asks to come back later
	maxEnrolWait   = time.Minute
)

// identity is who this machine is to its gateway. It is kept in a file that only its owner can read.
type identity struct {
	Node         string             `json:"node"`
	Name         string             `json:"name"`
	Organization string             `json:"organization"`
	Audience     string             `json:"audience"`
	Gateway      string             `json:"gateway"`      // at which it was enrolled
	Gateways     []string           `json:"gateway_urls"` // at which that wants to be dialled; none: Gateway
	Key          string             `json:"key"`
	Private      ed25519.PrivateKey `json:"private_key"`
	KeyMade      time.Time          `json:"key_made"`
}

// forLink is what the link needs of it.
func (i *identity) forLink() tunnel.Identity {
	return tunnel.Identity{Node: i.Node, Key: i.Key, Audience: i.Audience, Private: i.Private}
}

// dial is where to dial. An address that the owner gives now wins over what was said at the enrolment.
func (i *identity) dial(given string) []string {
	switch {
	case given != "" && given != i.Gateway:
		return []string{given}
	case len(i.Gateways) > 0:
		return i.Gateways
	default:
		return []string{i.Gateway}
	}
}

// loadIdentity returns nil when the machine is not enrolled.
func loadIdentity(dir folder) (*identity, error) {
	var i identity
	err := dir.read(identityFile, &i)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // not being enrolled is no failure
	}
	if err == nil && (i.Node == "" || i.Key == "" || len(i.Private) != ed25519.PrivateKeySize) {
		err = &Problem{Message: dir.path(identityFile) + " is not complete", Hint: "restore it from a copy, or remove it and enrol the node again"}
	}
	return &i, err
}

// enrolment is a key that is about to become a node's. It is kept before it is sent: when the answer is lost, the same
// question gets it again.
type enrolment struct {
	Private ed25519.PrivateKey `json:"private_key"`
}

// enrolNode makes this machine a node.
func enrolNode(ctx context.Context, s *Settings, dir folder) (*identity, error) {
	switch {
	case s.Gateway == "":
		return nil, &Problem{Message: "this machine is not enrolled yet, and no gateway is given", Hint: needBoth}
	case s.Token.Empty():
		return nil, &Problem{Message: "this machine is not enrolled yet, and no token is given", Hint: needBoth}
	}
	renewed := false
	for tries := 1; ; tries++ {
		i, refused, err := enrolOnce(ctx, s, dir)
		switch {
		case err == nil:
			return i, nil
		case refused.wait > 0 && tries < maxEnrolTries:
			s.Log.Info("the gateway takes no enrolments at the moment; asking again", "wait", refused.wait)
			if err := sleep(ctx, refused.wait); err != nil {
				return nil, err
			}
		case !renewed && (refused.code == "node_key_in_use" || refused.code == "node_key_refused"):
			// The key is that of another node: a disk was copied while it was being enrolled.
			renewed = true
			if err := dir.remove(enrolFile); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

// refusal is how the gateway refused an enrolment, as far as a program can use it.
type refusal struct {
	code string
	wait time.Duration // 0: asking again does not help
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const needBoth = "make a token in the console or with shareai nodes token, then: shareai node --gateway https://… --token …"

// enrolOnce asks the gateway.
func enrolOnce(ctx context.Context, s *Settings, dir folder) (i *identity, refused refusal, err error) {
	var key enrolment
	err = dir.read(enrolFile, &key)
	if err != nil || len(key.Private) != ed25519.PrivateKeySize {
		if _, key.Private, err = ed25519.GenerateKey(rand.Reader); err != nil {
			return nil, refusal{}, err
		}
		if err := dir.write(enrolFile, key); err != nil {
			return nil, refusal{}, err
		}
	}
	hostname, _ := os.Hostname() // it only helps people to tell nodes apart
	request := enrol.Request{
		Token: s.Token.Reveal(), Name: s.Name, AgentVersion: s.Version, Hostname: hostname, OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
	request.Sign(key.Private)
	answer, refused, err := postEnrolment(ctx, s, &request)
	if err != nil {
		return nil, refused, err
	}
	i = &identity{
		Node: answer.NodeID, Name: answer.Name, Organization: answer.Organization, Audience: answer.Audience,
		Gateway: s.Gateway, Gateways: answer.GatewayURLs, Key: answer.KeyID, Private: key.Private, KeyMade: time.Now().UTC(),
	}
	if err := dir.write(identityFile, i); err != nil {
		return nil, refusal{}, fmt.Errorf("keep the identity of the node: %w", err)
	}
	return i, refusal{}, dir.remove(enrolFile)
}

func postEnrolment(ctx context.Context, s *Settings, request *enrol.Request) (answer enrol.Answer, refused refusal, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return answer, refusal{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Gateway+enrol.Path, bytes.NewReader(body))
	if err != nil {
		return answer, refusal{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	client, err := s.client()
	if err != nil {
		return answer, refusal{}, err
	}
	defer client.CloseIdleConnections()
	response, err := client.Do(r)
	if err != nil {
		return answer, refusal{}, unreachable(ctx, s.Gateway, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxEnrolAnswer))
	switch {
	case err != nil:
		return answer, refusal{}, unreachable(ctx, s.Gateway, err)
	case response.StatusCode/100 != 2:
		code, err := notEnrolled(s.Gateway, response.StatusCode, text)
		return answer, refusal{code, retryAfter(response)}, err
	}
	if json.Unmarshal(text, &answer) != nil || answer.NodeID == "" || answer.KeyID == "" {
		return answer, refusal{}, noGateway(s.Gateway, response.StatusCode)
	}
	return answer, refusal{}, nil
}

// retryAfter is how long a gateway that has too much to do wants to be left alone.
func retryAfter(r *http.Response) time.Duration {
	if r.StatusCode != http.StatusTooManyRequests && r.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	seconds, err := strconv.Atoi(r.Header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxEnrolWait)
}

func unreachable(ctx context.Context, gateway string, cause error) error {
	if context.Cause(ctx) == context.Canceled { //nolint:errorlint // it is compared as the standard library returns it
		return context.Canceled
	}
	return &Problem{
		Message: "the gateway " + gateway + " can not be reached: " + reason(cause),
		Hint:    "is the address right, and is the gateway running? Behind a proxy set HTTPS_PROXY; where TLS is inspected, give --ca-file",
		Cause:   cause,
	}
}

// reason is an error without the method and the address that stand in front of it.
func reason(err error) string {
	var inner interface{ Unwrap() error }
	if errors.As(err, &inner) && inner.Unwrap() != nil {
		return inner.Unwrap().Error()
	}
	return err.Error()
}

func noGateway(gateway string, status int) error {
	return &Problem{
		Message: fmt.Sprintf("%s does not answer like a ShareAI gateway (status %d)", gateway, status),
		Hint:    "give the address of the gateway itself, without /v1; it may be that a proxy in between answers",
	}
}

// notEnrolled is the gateway's refusal in its own words.
func notEnrolled(gateway string, status int, text []byte) (code string, err error) {
	var said struct {
		Error struct{ Message, Code string }
	}
	if json.Unmarshal(text, &said) != nil || said.Error.Message == "" || said.Error.Code == "unknown_url" {
		return "", noGateway(gateway, status)
	}
	hint := ""
	if status == http.StatusUnauthorized {
		hint = "make a new token in the console or with shareai nodes token, and start again with it"
	}
	return said.Error.Code, &Problem{Message: "the gateway did not enrol this machine: " + said.Error.Message, Hint: hint}
}
