package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/wneessen/go-mail"

	"shareai/internal/alert"
)

// email sends a message by SMTP. TLS is what was declared, never what the server feels like.
func (s *Sender) email(ctx context.Context, to *alert.Receiver, m *alert.Message) error {
	e := to.Email
	message, err := mailOf(e, m)
	if err != nil {
		return err
	}
	dial := s.dialer(guardOf(to)).DialContext
	options := []mail.Option{mail.WithPort(e.Port), mail.WithTimeout(sendTime), mail.WithTLSConfig(s.tls(e.Host))}
	switch e.TLS {
	case alert.ImplicitTLS:
		dial = (&tls.Dialer{NetDialer: s.dialer(guardOf(to)), Config: s.tls(e.Host)}).DialContext
		options = append(options, mail.WithSSL())
	case alert.NoTLS:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if e.Username != "" {
		options = append(options, mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin),
			mail.WithUsername(e.Username), mail.WithPassword(e.Password.Reveal()))
	}
	session, end := context.WithCancel(ctx)
	defer end()
	client, err := mail.NewClient(e.Host, append(options, mail.WithDialContextFunc(closing(session, dial)))...)
	if err != nil {
		return err
	}
	err = client.DialAndSendWithContext(ctx, message)
	var refused *mail.SendError
	if errors.As(err, &refused) {
		return &Error{Reason: "the mail server did not take the message: " + refused.Reason.String(), Cause: err}
	}
	return err
}

// closing makes connections that close when their session ends. The library leaves them open after some failures, and
// does not hear of the end of a context.
func closing(session context.Context, dial mail.DialContextFunc) mail.DialContextFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			context.AfterFunc(session, func() { _ = conn.Close() })
		}
		return conn, err
	}
}

func mailOf(e *alert.Email, m *alert.Message) (*mail.Msg, error) {
	message := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := message.From(e.From); err != nil {
		return nil, err
	}
	if err := message.To(e.To...); err != nil {
		return nil, err
	}
	sign := map[bool]string{false: "[ShareAI] ", true: "[ShareAI] [over] "}[m.Over()]
	message.Subject(sign + strings.TrimPrefix(m.Title, "Over: "))
	message.SetDate()
	// The same id when it is sent again: mail programs show it once.
	message.SetMessageIDWithValue(fmt.Sprintf("%s@shareai", m.ID))
	message.SetGenHeader("Auto-Submitted", "auto-generated")
	if m.Episode != nil {
		message.SetGenHeader("References", fmt.Sprintf("<%s@shareai>", m.Episode.ID)) // one thread for each episode
	}
	message.SetBodyString(mail.TypeTextPlain, mailText(m))
	return message, nil
}
