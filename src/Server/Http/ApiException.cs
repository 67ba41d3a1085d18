// A refusal with its status, in the form that OpenAI's clients understand. Deliberately not: who catches it (CompletionServer).
namespace IptNative.Server.Http;

/// <summary>An answer that is an error.</summary>
/// <param name="status">HTTP status.</param>
/// <param name="message">For the user.</param>
/// <param name="param">The field that is to blame, if one is.</param>
/// <param name="code">A word for programs.</param>
internal sealed class ApiException(int status, string message, string? param = null, string? code = null) : Exception(message)
{
    public int Status => status;

    public string? Param => param;

    public string? Code => code;

    /// <summary>Seconds after which to try again; null where that would not help.</summary>
    public int? RetryAfter { get; init; }

    public string Type => status switch
    {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        >= 500 => "server_error",
        _ => "invalid_request_error",
    };
}
