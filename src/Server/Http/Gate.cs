// Who may come in: the Host header on a loopback address, and the bearer token. Deliberately not: TLS, users, rates (a proxy's).
using System.Net;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace IptNative.Server.Http;

/// <summary>Checks that stand before every answer.</summary>
internal sealed class Gate(ServerOptions options)
{
    private readonly byte[]? _token = options.Token is null ? null : SHA256.HashData(Encoding.UTF8.GetBytes(options.Token));

    /// <summary>Lets a request in or throws.</summary>
    /// <param name="request">The request.</param>
    /// <param name="open">True where no token is asked for.</param>
    public void Require(HttpRequest request, bool open)
    {
        // A site whose name suddenly means 127.0.0.1 (DNS rebinding) would be same-origin with this server: its name gives it away.
        if (IPAddress.IsLoopback(options.Address) && !IsLoopbackName(request.Host.Host))
            throw new ApiException(403, $"The host '{request.Host.Host}' is not this server's name, expected localhost or a loopback address.");
        if (open || _token is null)
            return;
        string header = request.Headers.Authorization.ToString();
        const string scheme = "Bearer ";
        // Hashes are of one length, so that neither the length nor the first wrong byte shows in the time taken.
        bool known = header.StartsWith(scheme, StringComparison.OrdinalIgnoreCase)
            && CryptographicOperations.FixedTimeEquals(SHA256.HashData(Encoding.UTF8.GetBytes(header[scheme.Length..].Trim())), _token);
        if (!known)
            throw new ApiException(401, header.Length == 0 ? "This server asks for a token: send 'Authorization: Bearer TOKEN'." : "The token is not this server's.", code: "invalid_api_key");
    }

    private static bool IsLoopbackName(string host) =>
        host.Equals("localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(host.Trim('[', ']'), out IPAddress? address) && IPAddress.IsLoopback(address));
}
