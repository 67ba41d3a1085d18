// Bodies in and out. Deliberately not: what they mean.
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.Net.Http.Headers;

namespace IptNative.Server.Http;

/// <summary>Reads a request's body up to what Kestrel was told is the most.</summary>
internal static class RequestBody
{
    public static async Task<byte[]> Read(HttpRequest request, CancellationToken cancel)
    {
        // A page of another site can send a form or plain text to this server without asking; JSON it cannot.
        if (!MediaTypeHeaderValue.TryParse(request.ContentType, out MediaTypeHeaderValue? type) || !type.MediaType.Equals("application/json", StringComparison.OrdinalIgnoreCase))
            throw new ApiException(415, $"Content-Type is '{request.ContentType}', expected 'application/json'.");
        return await Bytes(request, cancel);
    }

    // Grows with what arrives: a length that is only announced reserves nothing.
    public static async Task<byte[]> Bytes(HttpRequest request, CancellationToken cancel)
    {
        using var body = new MemoryStream();
        await request.Body.CopyToAsync(body, cancel);
        return body.ToArray();
    }
}

/// <summary>Writes whole answers.</summary>
internal static class Responses
{
    public static Task Json(HttpContext context, int status, ReadOnlyMemory<byte> body) => Send(context, status, "application/json", body);

    public static Task Text(HttpContext context, int status, string type, string text) => Send(context, status, type, Encoding.UTF8.GetBytes(text));

    public static async Task Send(HttpContext context, int status, string type, ReadOnlyMemory<byte> body)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = type;
        context.Response.ContentLength = body.Length;
        context.Response.Headers.XContentTypeOptions = "nosniff";
        await context.Response.Body.WriteAsync(body, context.RequestAborted);
    }

    public static Task Error(HttpContext context, ApiException error)
    {
        if (error.RetryAfter is { } seconds)
            context.Response.Headers.RetryAfter = seconds.ToString(System.Globalization.CultureInfo.InvariantCulture);
        if (error.Status == 401)
            context.Response.Headers.WWWAuthenticate = "Bearer";
        return Json(context, error.Status, CompletionJson.Error(error));
    }
}
