// `iptnative serve`: a frozen T5 behind many prompts over HTTP. Deliberately not the server itself (src/Server).
using System.CommandLine;
using System.Net;
using IptNative.Cli.Terminal;
using IptNative.Server;

namespace IptNative.Cli.Commands;

internal static class ServeCommand
{
    private const int DefaultDrainSeconds = 30;

    private static readonly Option<int> Drain = new("--drain-seconds") { Description = "After Ctrl+C or SIGTERM: how long running requests may take to end.", DefaultValueFactory = _ => DefaultDrainSeconds };

    public static Command Create()
    {
        var defaults = new ServerOptions { Model = "" };
        var model = new Option<string>("--model") { Description = "Package, checkpoint folder, weight file or Hub name.", Required = true };
        var prompts = new Option<string?>("--prompts") { Description = "Folder of prompts (PEFT folders, run folders, .npy, .safetensors, .pt); looked at every second, so that prompts come and go without a restart." };
        var host = new Option<string>("--host") { Description = "Address to listen on; 0.0.0.0 is every network, and needs a token.", DefaultValueFactory = _ => "127.0.0.1" };
        var port = new Option<int>("--port") { Description = "TCP port; 0 takes a free one.", DefaultValueFactory = _ => 8080 };
        var token = new Option<FileInfo?>("--token-file") { Description = "File whose first line clients have to send as 'Authorization: Bearer ...'." };
        var open = new Option<bool>("--no-token") { Description = "Listen beyond this machine without a token." };
        var editable = new Option<bool>("--editable") { Description = "Clients may add prompts (PUT /v1/prompts/NAME) and delete them." };
        var batch = new Option<int>("--max-batch") { Description = "Most texts generated together.", DefaultValueFactory = _ => defaults.MaxBatch };
        var queue = new Option<int>("--max-queue") { Description = "Most texts that wait; further requests get 429.", DefaultValueFactory = _ => defaults.MaxQueue };
        var source = new Option<int>("--max-source-length") { Description = "Most tokens of an input; longer ones are refused.", DefaultValueFactory = _ => defaults.MaxSourceLength };
        var tokens = new Option<int>("--max-tokens") { Description = "Most tokens that a request may ask for.", DefaultValueFactory = _ => defaults.MaxTokens };
        var body = new Option<int>("--max-body-bytes") { Description = "Largest request.", DefaultValueFactory = _ => defaults.MaxBodyBytes };
        Option<string> compute = ComputeOption.Create();
        var threads = new ThreadsOption();
        var device = new DeviceOption();
        var command = new Command("serve", "Serve prompts over HTTP in OpenAI's form (POST /v1/completions, GET /v1/models), with a page to try them.");
        foreach (Option option in (Option[])[model, prompts, host, port, token, open, editable, batch, queue, source, tokens, body, Drain, compute, threads, device])
            command.Options.Add(option);
        command.WithExamples(
            "iptnative serve --model models/t5-gym-tiny --prompts runs",
            "iptnative serve --model google/t5-base-lm-adapt --prompts prompts --host 0.0.0.0 --token-file token.txt --port 80",
            "iptnative serve --model google/t5-xl-lm-adapt --prompts prompts --device cuda:0 --compute bf16",
            "curl localhost:8080/v1/completions -H 'Content-Type: application/json' -d '{\"model\": \"sst2\", \"prompt\": \"a fine film\"}'");
        command.SetRun((parsed, cancel) =>
        {
            if (!IPAddress.TryParse(parsed.GetValue(host)! == "localhost" ? "127.0.0.1" : parsed.GetValue(host), out IPAddress? address))
                throw new UsageException($"--host is '{parsed.GetValue(host)}', expected an IP address such as 127.0.0.1, 0.0.0.0 or ::1.");
            if (parsed.GetValue(Drain) is < 0 or > 3600)
                throw new UsageException($"--drain-seconds is {parsed.GetValue(Drain)}, expected 0 to 3600.");
            string? secret = parsed.GetValue(token) is { } file ? Secret(file) : null;
            if (secret is null && !IPAddress.IsLoopback(address) && !parsed.GetValue(open))
                throw new UsageException($"--host {address} can be reached by others, and there is no token. Give --token-file FILE, or --no-token where something else keeps strangers out.");
            var options = new ServerOptions
            {
                Model = parsed.GetValue(model)!,
                Prompts = parsed.GetValue(prompts),
                Address = address,
                Port = parsed.GetValue(port),
                Token = secret,
                Editable = parsed.GetValue(editable),
                Device = device.Of(parsed),
                Threads = threads.Of(parsed),
                Compute = ComputeOption.Read(parsed, compute),
                MaxBatch = parsed.GetValue(batch),
                MaxChoices = Math.Min(defaults.MaxChoices, Math.Max(1, parsed.GetValue(batch))),
                MaxQueue = parsed.GetValue(queue),
                MaxSourceLength = parsed.GetValue(source),
                MaxTokens = parsed.GetValue(tokens),
                MaxBodyBytes = parsed.GetValue(body),
            };
            try
            {
                options.Validate();
            }
            catch (ArgumentException e)
            {
                throw new UsageException(e.Message);
            }
            return Serve(options, TimeSpan.FromSeconds(parsed.GetValue(Drain)), cancel).GetAwaiter().GetResult();
        });
        return command;
    }

    private static async Task<int> Serve(ServerOptions options, TimeSpan patience, CancellationToken cancel)
    {
        await using CompletionServer server = await CompletionServer.StartAsync(options, line => Console.Error.WriteLine($"iptnative: {line}"), cancel);
        using (TextWriter output = StandardOutput.Open())
        {
            output.WriteLine($"serving {string.Join(", ", server.Names)}");
            output.WriteLine($"listening on {server.Address}");
        }
        var stopped = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using (cancel.Register(stopped.SetResult))
            await Task.WhenAny(stopped.Task, server.Failed);
        if (server.Failed.IsCompletedSuccessfully)
        {
            // Requests get their refusals first.
            await server.DrainAsync(patience);
            return ExitCode.Report($"{server.Failed.Result.Message} The server has ended; start it again.", ExitCode.Failed);
        }
        Console.Error.WriteLine($"iptnative: stopping; running requests have {patience.TotalSeconds:0} seconds.");
        await server.DrainAsync(patience);
        return ExitCode.Done;
    }

    private static string Secret(FileInfo file)
    {
        if (!file.Exists)
            throw new FileNotFoundException($"{file}: reading the token; there is no such file. Write a long random line into it, for example with: openssl rand -hex 32");
        string line = File.ReadLines(file.FullName).FirstOrDefault("").Trim();
        return line.Length >= 16 ? line : throw new InvalidDataException($"{file}: reading the token; its first line has {line.Length} characters, expected at least 16: a shorter one can be guessed.");
    }
}
