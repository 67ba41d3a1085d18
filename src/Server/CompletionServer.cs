// The HTTP server: Kestrel, the way from a path to its answer, start and drain. Deliberately not: the answers (Http/), the batch (Scheduling/).
using System.Net;
using System.Net.Sockets;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;
using IptNative.Model.Tokenizer;
using IptNative.Server.Http;
using IptNative.Server.Prompts;
using IptNative.Server.Scheduling;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace IptNative.Server;

/// <summary>Serves a frozen T5 behind many prompts over HTTP, in OpenAI's form.</summary>
public sealed class CompletionServer : IAsyncDisposable
{
    private readonly ServerOptions _options;
    private readonly Checkpoint _checkpoint;
    private readonly ComputeDevice? _device;
    private readonly PromptLibrary _prompts;
    private readonly ServerMetrics _metrics = new();
    private readonly Scheduler _scheduler;
    private readonly CompletionEndpoint _completions;
    private readonly Gate _gate;
    private readonly Action<string> _log;
    private readonly WebApplication _app;
    private readonly CancellationTokenSource _stopRescan = new();
    private Task _rescan = Task.CompletedTask;
    private volatile bool _draining;

    private CompletionServer(ServerOptions options, Checkpoint checkpoint, ComputeDevice? device, Action<string> log)
    {
        (_checkpoint, _device, _log) = (checkpoint, device, log);
        // Before the model: small, and most mistakes are here.
        _prompts = new PromptLibrary(options.Prompts, ModelName(options.Model), checkpoint.Config, options.MaxPromptRows, log);
        T5Tokenizer tokenizer = T5Tokenizer.Load(Checkpoint.FolderOf(options.Model), checkpoint.Config.VocabSize);
        _options = options = device is null ? options : DevicePlan.Fit(device, checkpoint, options, _prompts.All.Max(p => p.Prompt?.Length ?? 0), log);
        _scheduler = new Scheduler(checkpoint, options, _metrics, device);
        _completions = new CompletionEndpoint(options, _prompts, tokenizer, checkpoint.Config.VocabSize, _scheduler, _metrics);
        _gate = new Gate(options);
        _app = Build();
    }

    /// <summary>Where it listens, with the port that it got.</summary>
    public Uri Address { get; private set; } = new("http://localhost");

    /// <summary>Names that completions may be asked of, the bare model's included.</summary>
    public IReadOnlyList<string> Names => [.. _prompts.All.Select(p => p.Name)];

    /// <summary>Done when nothing can be computed any more, with the reason: dispose the server then. Running requests have been told.</summary>
    public Task<Exception> Failed => _scheduler.Failed;

    /// <summary>What it has counted, for tests; clients read /metrics.</summary>
    internal ServerMetrics Metrics => _metrics;

    /// <summary>Opens the model, reads the prompts and listens.</summary>
    /// <param name="options">Settings.</param>
    /// <param name="log">Told what an operator should know, a line at a time, by any thread.</param>
    /// <param name="cancel">Ends the start.</param>
    /// <returns>The server; dispose it.</returns>
    /// <exception cref="ArgumentException">An option is impossible.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room for the model and one text.</exception>
    /// <exception cref="InvalidDataException">A file is damaged, a prompt is of another width, or two have one name.</exception>
    /// <exception cref="IOException">A file is not there, or the port is taken.</exception>
    /// <exception cref="NotSupportedException">A GPU was asked for and cannot be had.</exception>
    public static Task<CompletionServer> StartAsync(ServerOptions options, Action<string> log, CancellationToken cancel = default) => StartOn(null, options, log, cancel);

    /// <summary>The same on a device that is made here; null: on the one that the options name.</summary>
    internal static async Task<CompletionServer> StartOn(Func<ComputeDevice>? open, ServerOptions options, Action<string> log, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(log);
        options.Validate();
        // First: a device that cannot be had should not wait for the model.
        ComputeDevice? device = open is not null ? open() : Open(options, log);
        Checkpoint? checkpoint = null;
        CompletionServer server;
        try
        {
            checkpoint = Checkpoint.Open(options.Model);
            server = new CompletionServer(options, checkpoint, device, log);
        }
        catch
        {
            checkpoint?.Dispose();
            device?.Dispose();
            throw;
        }
        try
        {
            await server.Listen(cancel);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Takes no new completions, lets the running ones end, and stops listening.</summary>
    /// <param name="patience">How long the running ones may take; what is not done then fails with 503.</param>
    /// <returns>When nothing runs any more.</returns>
    public async Task DrainAsync(TimeSpan patience)
    {
        _draining = true;
        await _stopRescan.CancelAsync();
        using var limit = new CancellationTokenSource(patience);
        await _app.StopAsync(limit.Token);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _stopRescan.CancelAsync();
        await _rescan;
        GiveBack(_scheduler);
        await _app.DisposeAsync();
        _stopRescan.Dispose();
        if (_device is not null)
            GiveBack(_device);
        _checkpoint.Dispose();
    }

    private static ComputeDevice? Open(ServerOptions options, Action<string> log)
    {
        ComputeDevice? device = options.Device.OpenGpu(options.Compute, out string note);
        if (note.Length > 0)
            log(note);
        return device;
    }

    // A GPU that has failed refuses this too; why the server ends was said before.
    private void GiveBack(IDisposable held)
    {
        try
        {
            held.Dispose();
        }
        catch (Exception e) when (Failed.IsCompleted)
        {
            _log($"giving back what was computed with: {e.Message}");
        }
    }

    // The last part of a path or Hub name, as far as it can name a model.
    private static string ModelName(string model)
    {
        string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(model)));
        return ServedPrompt.IsName(name) ? name : "model";
    }

    private WebApplication Build()
    {
        // Empty: no appsettings, no environment variables, no console of its own. What this server does is what its options say.
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            KestrelServerLimits limits = kestrel.Limits;
            limits.MaxRequestBodySize = _options.MaxBodyBytes;
            limits.MaxConcurrentConnections = _options.MaxConnections;
            limits.RequestHeadersTimeout = _options.Patience;
            limits.KeepAliveTimeout = _options.Silence;
            limits.MinRequestBodyDataRate = new MinDataRate(bytesPerSecond: 240, gracePeriod: _options.Patience);
            limits.MinResponseDataRate = new MinDataRate(bytesPerSecond: 240, gracePeriod: _options.Patience);
            kestrel.Listen(_options.Address, _options.Port);
        });
        builder.Services.Configure<Microsoft.Extensions.Hosting.HostOptions>(host => host.ShutdownTimeout = Timeout.InfiniteTimeSpan);
        WebApplication app = builder.Build();
        app.Run(Handle);
        return app;
    }

    private async Task Listen(CancellationToken cancel)
    {
        try
        {
            await _app.StartAsync(cancel);
        }
        catch (IOException e)
        {
            throw new IOException($"listening on {new IPEndPoint(_options.Address, _options.Port)}: {e.GetBaseException().Message}. Take another --port; 0 takes a free one.", e);
        }
        catch (SocketException e)
        {
            throw new IOException($"listening on {new IPEndPoint(_options.Address, _options.Port)}: {e.Message}. Take another --host or --port; a port below 1024 may need rights.", e);
        }
        Address = new Uri(_app.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.First());
        _rescan = Rescan();
    }

    private async Task Rescan()
    {
        using var timer = new PeriodicTimer(_options.RescanEvery);
        try
        {
            while (await timer.WaitForNextTickAsync(_stopRescan.Token))
            {
                try
                {
                    _prompts.Rescan();
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    // The folder itself cannot be read now: what was read stays, and the next look may do better.
                    _log(e.Message);
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The end of every server.
            return;
        }
    }

    private async Task Handle(HttpContext context)
    {
        string route = "other";
        try
        {
            string path = context.Request.Path.Value ?? "/";
            route = Routes.Name(path);
            _gate.Require(context.Request, open: route is "/" or "/page.css" or "/page.js" or "/healthz");
            await Route(context, route, path);
        }
        catch (ApiException e)
        {
            await Refuse(context, e);
        }
        catch (Microsoft.AspNetCore.Http.BadHttpRequestException e)
        {
            await Refuse(context, e.StatusCode switch
            {
                413 => new ApiException(413, $"The body is larger than this server takes ({(route == "/v1/prompts/{name}" ? _options.MaxPromptBytes : _options.MaxBodyBytes)} bytes).", code: "body_too_large"),
                408 => new ApiException(408, "The body came too slowly.", code: "too_slow"),
                _ => new ApiException(e.StatusCode, e.Message),
            });
        }
        catch (Exception e) when (context.RequestAborted.IsCancellationRequested && e is OperationCanceledException or IOException)
        {
            // The client has gone: nobody is left to answer. 499 as nginx counts it.
            _metrics.Answered(route, 499);
            return;
        }
        catch (Exception e) when (!context.RequestAborted.IsCancellationRequested)
        {
            _log($"answering {context.Request.Method} {route}: {e}");
            await Refuse(context, new ApiException(500, "The server failed to answer; its log says more."));
        }
        _metrics.Answered(route, context.Response.StatusCode);
    }

    private static Task Refuse(HttpContext context, ApiException error)
    {
        if (!context.Response.HasStarted)
            return Responses.Error(context, error);
        context.Abort();
        return Task.CompletedTask;
    }

    private Task Route(HttpContext context, string route, string path)
    {
        // What GET would say, without the body, which Kestrel leaves out.
        string method = HttpMethods.IsHead(context.Request.Method) ? "GET" : context.Request.Method;
        switch ((method, route))
        {
            case ("POST", "/v1/completions"):
                return _draining ? throw new ApiException(503, "The server is stopping; send the request again in a moment.", code: "stopping") { RetryAfter = 5 } : _completions.Answer(context);
            case ("GET", "/v1/models"):
                return Responses.Json(context, 200, CompletionJson.Object(json =>
                {
                    json.WriteString("object", "list");
                    json.WriteStartArray("data");
                    foreach (ServedPrompt prompt in _prompts.All)
                    {
                        json.WriteStartObject();
                        CompletionJson.Model(json, prompt);
                        json.WriteEndObject();
                    }
                    json.WriteEndArray();
                }));
            case ("GET", "/v1/models/{name}"):
                return _prompts.Find(Routes.Last(path)) is { } found
                    ? Responses.Json(context, 200, CompletionJson.Object(json => CompletionJson.Model(json, found)))
                    : throw new ApiException(404, $"There is no prompt '{Routes.Last(path)}'.", "model", "model_not_found");
            case ("PUT", "/v1/prompts/{name}"):
                return Add(context, Routes.Last(path));
            case ("DELETE", "/v1/prompts/{name}" or "/v1/models/{name}"):
                return Remove(context, Routes.Last(path));
            case ("GET", "/healthz"):
                return Responses.Text(context, _draining || Failed.IsCompleted ? 503 : 200, "text/plain; charset=utf-8", Failed.IsCompleted ? "failed\n" : _draining ? "draining\n" : "ok\n");
            case ("GET", "/metrics"):
                return Responses.Text(context, 200, "text/plain; version=0.0.4; charset=utf-8", _metrics.Write(_scheduler.Waiting, _scheduler.Running, _prompts.Count));
            case ("GET", "/" or "/page.css" or "/page.js"):
                return Page.Send(context, route);
        }
        string? allowed = Routes.Allowed(route);
        if (allowed is null)
            throw new ApiException(404, $"There is nothing at this path. This server has: {Routes.List}.");
        context.Response.Headers.Allow = allowed;
        throw new ApiException(405, $"{context.Request.Method} {route} is not offered, expected {allowed}.");
    }

    private async Task Add(HttpContext context, string name)
    {
        RequireEditable();
        IHttpMaxRequestBodySizeFeature? size = context.Features.Get<IHttpMaxRequestBodySizeFeature>();
        if (size is { IsReadOnly: false })
            size.MaxRequestBodySize = _options.MaxPromptBytes;
        byte[] content = await RequestBody.Bytes(context.Request, context.RequestAborted);
        try
        {
            ServedPrompt added = _prompts.Add(name, content);
            _log($"prompt '{name}' was added: {added.Prompt!.Length} rows"); // an added prompt is one
            await Responses.Json(context, 201, CompletionJson.Object(json => CompletionJson.Model(json, added)));
        }
        catch (PromptRefusedException e)
        {
            throw new ApiException(e.Why == PromptRefusal.Duplicate ? 409 : 400, e.Message, "name");
        }
    }

    private Task Remove(HttpContext context, string name)
    {
        RequireEditable();
        try
        {
            _prompts.Remove(name);
        }
        catch (PromptRefusedException e)
        {
            throw new ApiException(e.Why == PromptRefusal.Unknown ? 404 : 409, e.Message, "name");
        }
        _log($"prompt '{name}' was deleted");
        return Responses.Json(context, 200, CompletionJson.Object(json =>
        {
            json.WriteString("id", name);
            json.WriteString("object", "model");
            json.WriteBoolean("deleted", true);
        }));
    }

    private void RequireEditable()
    {
        if (!_options.Editable)
            throw new ApiException(403, "This server does not let clients change prompts. Start it with --editable, or change the folder itself: it is looked at every second.");
    }
}
