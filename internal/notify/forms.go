package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/alert"
)

// Signature signs a webhook as Standard Webhooks does: HMAC-SHA256 over id, timestamp and body, in base64 behind the
// version of the scheme. The timestamp keeps an old message from being sent again by somebody else.
func Signature(secret account.Secret, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, signingKey(secret))
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body) // never fails
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// signingKey is the key that a secret stands for.
func signingKey(secret account.Secret) []byte {
	encoded, prefixed := strings.CutPrefix(secret.Reveal(), alert.SecretPrefix)
	if key, err := base64.StdEncoding.DecodeString(encoded); prefixed && err == nil {
		return key
	}
	return []byte(secret.Reveal())
}

// slackText is a message as Slack's incoming webhooks take it, and Mattermost's, and Discord's under /slack.
type slackText struct {
	Text        string            `json:"text"`
	Attachments []slackAttachment `json:"attachments,omitempty"`
}

type slackAttachment struct {
	Fallback string `json:"fallback"`
	Color    string `json:"color"`
	Text     string `json:"text"`
	Footer   string `json:"footer,omitempty"`
}

// slackEscapes are the characters that mean something in a message. Names of things could contain them.
var slackEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func slackMessage(m *alert.Message) slackText {
	title, text := slackEscapes.Replace(m.Title), slackEscapes.Replace(m.Text)
	attachment := slackAttachment{Fallback: title + " " + text, Color: "danger", Text: text}
	switch {
	case m.Over():
		attachment.Color = "good"
	case m.Event == alert.TestEvent:
		attachment.Color = "#808080"
	}
	if m.Episode != nil {
		attachment.Footer = fmt.Sprintf("%s · %s", m.Rule, m.Episode.ID)
	}
	return slackText{Text: "*" + title + "*", Attachments: []slackAttachment{attachment}}
}

// mailText is the body of an e-mail.
func mailText(m *alert.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n%s\n\n", m.Title, m.Text)
	if m.Episode != nil {
		fmt.Fprintf(&b, "Rule:    %s\nEpisode: %s\nSince:   %s\n", m.Rule, m.Episode.ID, time.Time(m.Episode.Since).UTC().Format(time.RFC1123))
		if m.Over() {
			fmt.Fprintf(&b, "Until:   %s\n", time.Time(m.Episode.EndedAt).UTC().Format(time.RFC1123))
		}
		b.WriteString("\n`shareai alerts` lists what is open.\n")
	}
	return b.String()
}
