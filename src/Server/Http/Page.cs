// The page for trying prompts: three files inside the program. Deliberately without anything from another host.
using Microsoft.AspNetCore.Http;

namespace IptNative.Server.Http;

internal static class Page
{
    private static readonly Dictionary<string, (string Type, byte[] Body)> Files = new(StringComparer.Ordinal)
    {
        ["/"] = ("text/html; charset=utf-8", Read("page.html")),
        ["/page.css"] = ("text/css; charset=utf-8", Read("page.css")),
        ["/page.js"] = ("text/javascript; charset=utf-8", Read("page.js")),
    };

    public static Task Send(HttpContext context, string route)
    {
        (string type, byte[] body) = Files[route];
        context.Response.Headers.ContentSecurityPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
        context.Response.Headers.CacheControl = "no-cache";
        return Responses.Send(context, 200, type, body);
    }

    private static byte[] Read(string name)
    {
        using Stream stream = typeof(Page).Assembly.GetManifestResourceStream(name) ?? throw new InvalidOperationException($"the program was built without {name}");
        using var memory = new MemoryStream();
        stream.CopyTo(memory);
        return memory.ToArray();
    }
}
