// What a server is started with. Deliberately not: reading flags, files of secrets (Cli).
using System.Net;
using IptNative.Kernels.Devices;

namespace IptNative.Server;

/// <summary>Settings of a <see cref="CompletionServer"/>.</summary>
public sealed record ServerOptions
{
    /// <summary>Package, checkpoint folder, weight file or Hub name.</summary>
    public required string Model { get; init; }

    /// <summary>Folder whose entries are the prompts; null serves the bare model only.</summary>
    public string? Prompts { get; init; }

    /// <summary>Address to listen on; the loopback by default.</summary>
    public IPAddress Address { get; init; } = IPAddress.Loopback;

    /// <summary>TCP port; 0 takes a free one.</summary>
    public int Port { get; init; }

    /// <summary>Secret that every call but /healthz and the page has to bring as a bearer token; null asks for none.</summary>
    public string? Token { get; init; }

    /// <summary>Lets clients add prompts to the folder and take added ones out.</summary>
    public bool Editable { get; init; }

    /// <summary>Where it computes.</summary>
    public DeviceChoice Device { get; init; } = new(DeviceKind.Cpu, 0);

    /// <summary>CPU threads; 0 takes every core.</summary>
    public int Threads { get; init; }

    /// <summary>What the model's products multiply.</summary>
    public ComputeType Compute { get; init; } = ComputeType.F32;

    /// <summary>Most texts generated together, 1 or more.</summary>
    public int MaxBatch { get; init; } = 32;

    /// <summary>Most texts that wait, 1 or more; further requests get 429.</summary>
    public int MaxQueue { get; init; } = 256;

    /// <summary>Most tokens of an input, its end of sequence included, 2 or more; longer ones are refused, never cut.</summary>
    public int MaxSourceLength { get; init; } = 512;

    /// <summary>Most tokens that a request may ask for, 1 or more.</summary>
    public int MaxTokens { get; init; } = 256;

    /// <summary>Most texts of one request: inputs times n, 1 or more.</summary>
    public int MaxChoices { get; init; } = 32;

    /// <summary>Most bytes of a completion request's body.</summary>
    public int MaxBodyBytes { get; init; } = 1 << 20;

    /// <summary>Most bytes of an uploaded prompt.</summary>
    public long MaxPromptBytes { get; init; } = 64L << 20;

    /// <summary>Most open connections; further ones are closed at once.</summary>
    public int MaxConnections { get; init; } = 1024;

    /// <summary>How long a client may take to send the head of a request, and may fall short of 240 bytes a second in its body.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a connection may say nothing, before its first request and between two: silent ones count among the open ones.</summary>
    public TimeSpan Silence { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How often the folder of prompts is looked at.</summary>
    public TimeSpan RescanEvery { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Most positions of a batch, prompt, text and padding together; bounds the memory of keys and values.</summary>
    public int MaxBatchPositions { get; init; } = 16384;

    /// <summary>Most rows of a prompt: what a batch's positions leave beside the longest input.</summary>
    internal int MaxPromptRows => Math.Max(1, MaxBatchPositions - MaxSourceLength);

    /// <summary>Checks the numbers.</summary>
    /// <exception cref="ArgumentException">One is impossible; the message names it.</exception>
    public void Validate()
    {
        Require(Port is >= 0 and <= 65535, "port", Port, "0 (any free one) to 65535");
        Require(MaxBatch >= 1, "max-batch", MaxBatch, "1 or more");
        Require(MaxQueue >= 1, "max-queue", MaxQueue, "1 or more");
        Require(MaxSourceLength >= 2, "max-source-length", MaxSourceLength, "2 or more, a token and the end of sequence");
        Require(MaxTokens >= 1, "max-tokens", MaxTokens, "1 or more");
        Require(MaxChoices >= 1 && MaxChoices <= MaxBatch, "max-choices", MaxChoices, $"1 to max-batch = {MaxBatch}");
        Require(MaxBodyBytes >= 256, "max-body-bytes", MaxBodyBytes, "256 or more");
        Require(MaxPromptBytes >= 1, "max-prompt-bytes", MaxPromptBytes, "1 or more");
        Require(MaxConnections >= 1, "max-connections", MaxConnections, "1 or more");
        Require(MaxBatchPositions >= 1, "max-batch-positions", MaxBatchPositions, "1 or more");
        if (Token is { Length: < MinTokenLength })
            throw new ArgumentException($"Server: the token has {Token.Length} characters, expected at least {MinTokenLength}: a shorter one can be guessed.");
    }

    private const int MinTokenLength = 16;

    private static void Require(bool ok, string name, int value, string expected) => Require(ok, name, (long)value, expected);

    private static void Require(bool ok, string name, long value, string expected)
    {
        if (!ok)
            throw new ArgumentException($"Server: {name} is {value}, expected {expected}.");
    }
}
