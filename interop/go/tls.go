// The scenarios of TLS, with the certificates that interop/certificates has made.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"

	amqp "github.com/rabbitmq/amqp091-go"
)

var tlsScenarios = []struct {
	name string
	play func(name string)
}{
	{"tls-plain", func(name string) { thereAndBack(byTLS("", nil), name, "") }},
	{"tls-mutual", func(name string) { thereAndBack(byTLS("client", nil), name, "") }},
	{"tls-external", func(name string) {
		external := []amqp.Authentication{&amqp.ExternalAuth{}}
		// The broker checks that whoever publishes is who it says.
		thereAndBack(byTLS("client", external), name, "guest")
	}},
	{"tls-stranger", func(string) {
		connection, err := amqp.DialConfig(os.Getenv("AMQPS_URL"), byTLS("stranger", nil))
		require(err != nil, "a certificate of another authority was taken: %v", connection)
	}},
}

// byTLS trusts the authority of TLS_DIR and shows one of its certificates, if one is named.
func byTLS(certificate string, sasl []amqp.Authentication) amqp.Config {
	folder := os.Getenv("TLS_DIR")
	roots := x509.NewCertPool()
	require(roots.AppendCertsFromPEM(must(os.ReadFile(filepath.Join(folder, "ca.pem")))), "no ca.pem")
	config := &tls.Config{RootCAs: roots}
	if certificate != "" {
		file := filepath.Join(folder, certificate)
		own := must(tls.LoadX509KeyPair(file+".pem", file+".key"))
		config.Certificates = []tls.Certificate{own}
	}
	return amqp.Config{TLSClientConfig: config, SASL: sasl}
}

// thereAndBack: confirmed messages of several sizes arrive whole.
func thereAndBack(config amqp.Config, queue string, user string) {
	connection := must(amqp.DialConfig(os.Getenv("AMQPS_URL"), config))
	defer connection.Close()
	channel := must(connection.Channel())
	must(channel.QueueDeclare(queue, false, false, true, false, nil))
	check(channel.Confirm(false))
	for _, size := range []int{0, 1, 16_384, 1_000_000} {
		body := make([]byte, size)
		for at := range body {
			body[at] = byte(at % 251)
		}
		message := amqp.Publishing{UserId: user, Body: body}
		confirmed := must(channel.PublishWithDeferredConfirm("", queue, true, false, message))
		require(confirmed.Wait(), "%d bytes were not confirmed", size)
		delivery, found, err := channel.Get(queue, true)
		check(err)
		require(found && bytes.Equal(delivery.Body, body), "%d bytes arrived otherwise", size)
	}
}
