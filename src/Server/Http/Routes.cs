// The paths there are, and what may be done with each. Deliberately without a router: there are nine.
namespace IptNative.Server.Http;

internal static class Routes
{
    private static readonly Dictionary<string, string> Methods = new(StringComparer.Ordinal)
    {
        ["/"] = "GET, HEAD",
        ["/page.css"] = "GET, HEAD",
        ["/page.js"] = "GET, HEAD",
        ["/healthz"] = "GET, HEAD",
        ["/metrics"] = "GET, HEAD",
        ["/v1/completions"] = "POST",
        ["/v1/models"] = "GET, HEAD",
        ["/v1/models/{name}"] = "GET, HEAD, DELETE",
        ["/v1/prompts/{name}"] = "PUT, DELETE",
    };

    public static string List => string.Join(", ", Methods.Keys.Where(p => p.StartsWith("/v1", StringComparison.Ordinal) || p is "/" or "/healthz" or "/metrics"));

    /// <summary>The route of a path, few in number whatever clients ask for: metrics count by it.</summary>
    public static string Name(string path)
    {
        foreach (string prefix in (string[])["/v1/models/", "/v1/prompts/"])
        {
            if (path.StartsWith(prefix, StringComparison.Ordinal) && path.Length > prefix.Length)
                return prefix + "{name}";
        }
        return Methods.ContainsKey(path) ? path : "other";
    }

    /// <summary>What comes after the route's fixed part; may hold anything, slashes too.</summary>
    public static string Last(string path) => path[(path.IndexOf('/', "/v1/".Length) + 1)..];

    public static string? Allowed(string route) => Methods.GetValueOrDefault(route);
}
