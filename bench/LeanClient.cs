// One keep-alive connection that costs next to nothing: it shares the machine with the server that it measures. Deliberately not an HTTP client for anything else.
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace IptNative.Bench;

internal sealed class LeanClient : IDisposable
{
    private readonly Socket _socket;
    private readonly byte[] _buffer = new byte[1 << 16];

    public LeanClient(int port)
    {
        _socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        _socket.Connect(IPAddress.Loopback, port);
    }

    public static byte[] Request(string method, string path, string type, byte[] body) =>
        [.. Encoding.ASCII.GetBytes($"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {type}\r\nContent-Length: {body.Length}\r\n\r\n"), .. body];

    public static byte[] Completion(string json) => Request("POST", "/v1/completions", "application/json", Encoding.UTF8.GetBytes(json));

    /// <summary>Sends a request and reads its answer whole.</summary>
    /// <returns>The status, and the body, valid until the next call.</returns>
    public (int Status, ReadOnlyMemory<byte> Body) Send(byte[] request)
    {
        _socket.Send(request);
        int have = 0, head = -1, length = 0, status = 0;
        while (head < 0 || have < head + length)
        {
            int read = _socket.Receive(_buffer, have, _buffer.Length - have, SocketFlags.None);
            if (read == 0)
                throw new IOException("the server closed the connection in the middle of an answer.");
            have += read;
            if (head >= 0)
                continue;
            head = _buffer.AsSpan(0, have).IndexOf("\r\n\r\n"u8) + 4;
            if (head < 4)
            {
                head = -1;
                continue;
            }
            string text = Encoding.ASCII.GetString(_buffer, 0, head);
            status = int.Parse(text.AsSpan(9, 3), CultureInfo.InvariantCulture);
            const string Name = "Content-Length: ";
            int at = text.IndexOf(Name, StringComparison.Ordinal);
            if (at < 0)
                throw new IOException($"an answer without Content-Length, status {status}.");
            at += Name.Length;
            length = int.Parse(text.AsSpan(at, text.IndexOf('\r', at) - at), CultureInfo.InvariantCulture);
        }
        return (status, _buffer.AsMemory(head, length));
    }

    /// <summary>Sends a request and leaves after the first bytes of its answer.</summary>
    public void SendAndLeave(byte[] request)
    {
        _socket.Send(request);
        _socket.Receive(_buffer);
        _socket.Close();
    }

    public void Dispose() => _socket.Dispose();
}
