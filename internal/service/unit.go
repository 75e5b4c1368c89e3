package service

import (
	"fmt"
	"path/filepath"
	"strings"
)

// systemd is the unit for systemd. A service of the machine runs as a user of its own that exists only while it runs,
// and sees nothing but its own folder.
func (u *Unit) systemd() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[Unit]")
	line("Description=%s", u.Description)
	line("Wants=network-online.target")
	line("After=network-online.target")
	line("StartLimitIntervalSec=0")
	line("")
	line("[Service]")
	command := systemdQuote(u.Program)
	for _, a := range u.Arguments {
		command += " " + systemdQuote(a)
	}
	line("ExecStart=%s", command)
	line("Restart=on-failure")
	line("RestartSec=5")
	// A node that was revoked, or whose key another machine uses, would take links from that machine for ever.
	line("RestartPreventExitStatus=3")
	// Answers under way may end; see the program's own grace.
	line("TimeoutStopSec=90")
	if u.Scope == OfUser {
		line("")
		line("[Install]")
		line("WantedBy=default.target")
		return b.String()
	}
	line("DynamicUser=yes")
	line("StateDirectory=%s", filepath.Base(u.Folder))
	line("StateDirectoryMode=0700")
	line("NoNewPrivileges=yes")
	line("ProtectSystem=strict")
	line("ProtectHome=yes")
	line("PrivateTmp=yes")
	line("ProtectKernelTunables=yes")
	line("ProtectKernelModules=yes")
	line("ProtectControlGroups=yes")
	line("RestrictSUIDSGID=yes")
	line("CapabilityBoundingSet=")
	line("")
	line("[Install]")
	line("WantedBy=multi-user.target")
	return b.String()
}

// systemdQuote writes a word of a command line so that systemd takes it literally (systemd.service(5), "Command lines").
func systemdQuote(word string) string {
	word = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\n", `\n`).Replace(word)
	if word == "" || strings.ContainsAny(word, " \t;'\"") {
		return `"` + word + `"`
	}
	return word
}

// launchd is the property list for launchd.
func (u *Unit) launchd() string {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	var words strings.Builder
	for _, w := range append([]string{u.Program}, u.Arguments...) {
		words.WriteString("\t\t<string>" + escape(w) + "</string>\n")
	}
	log := escape(filepath.Join(u.Folder, u.Name+".log"))
	return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>` + escape(u.Name) + `</string>
	<key>ProgramArguments</key>
	<array>
` + words.String() + `	</array>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ThrottleInterval</key>
	<integer>5</integer>
	<key>ExitTimeOut</key>
	<integer>90</integer>
	<key>StandardOutPath</key>
	<string>` + log + `</string>
	<key>StandardErrorPath</key>
	<string>` + log + `</string>
</dict>
</plist>
`
}
