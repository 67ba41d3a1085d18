// Asks the configured NuGet sources once which of the optional packages they have, and writes the answer to eng/resolved.props.
// Deliberately knows nothing of how a package is used: the project files read the answer. See docs/decisions/package-resolution.md.
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace IptNative.Bootstrap;

internal static partial class PackageResolution
{
    // 1.29 on both roads: the npm package is that release, and the graph contributions we use were proven on it.
    private const string OnnxRuntimeRange = "[1.29.0,1.30.0)";

    /// <summary>A package wanted, if a source has it; the name is its probe's, and must not be a package's. A download is not referenced: no project compiles against it.</summary>
    private sealed record Question(string Name, string[] Packages, string Range, bool Download = false);

    private enum Answer { Found, Missing, Unreachable }

    private sealed record Reply(Answer Answer, string Version, string Folder, string Error);

    private static readonly Question Gpu = new("probe-onnxruntime-gpu", ["Microsoft.ML.OnnxRuntime.Gpu"], OnnxRuntimeRange);
    private static readonly Question Cpu = new("probe-onnxruntime", ["Microsoft.ML.OnnxRuntime"], OnnxRuntimeRange);
    private static readonly Question Ilgpu = new("probe-ilgpu", ["ILGPU", "ILGPU.Algorithms"], "[1.5.3]");
    // 2.0 is the first release that reads SentencePiece Unigram models.
    private static readonly Question Tokenizers = new("probe-tokenizers", ["Microsoft.ML.Tokenizers"], "[2.0.0,3.0.0)");
    private static readonly Question Compiler =
        new("probe-ahead-of-time", ["microsoft.netcore.app.crossgen2." + House.Rid], $"[{Environment.Version}]", Download: true);

    /// <summary>Leaves a valid eng/resolved.props, and .deps/onnxruntime where it is needed. Call with the lock held.</summary>
    public static void Ensure(House house, bool refresh = false)
    {
        string fingerprint = Fingerprint(house);
        string compiler = Read(house, "AheadOfTimeCompiler");
        bool cacheWasCleared = compiler.Length > 0 && !File.Exists(compiler);
        if (refresh || cacheWasCleared || Read(house, "ResolutionFingerprint") != fingerprint)
            Ask(house, fingerprint);
        if (Read(house, "OnnxRuntimeSource") == "npm")
            NpmOnnxRuntime.Ensure(house);
    }

    /// <summary>A property of eng/resolved.props; empty where it is not set.</summary>
    public static string Read(House house, string property)
    {
        if (!File.Exists(house.ResolvedProps))
            return "";
        try
        {
            return XDocument.Load(house.ResolvedProps).Descendants(property).FirstOrDefault()?.Value ?? "";
        }
        catch (System.Xml.XmlException)
        {
            return ""; // Edited by hand into something unreadable: ask again and write it anew.
        }
    }

    private static void Ask(House house, string fingerprint)
    {
        House.Say("asking the NuGet sources for ONNX Runtime, ILGPU, Microsoft.ML.Tokenizers and the ahead-of-time compiler");
        using var folder = new TemporaryFolder(house);
        Dictionary<Question, Reply> replies = Probe(folder.Path, [Gpu, Ilgpu, Tokenizers, Compiler]);
        Question onnxRuntime = Gpu;
        if (replies[Gpu].Answer == Answer.Missing)
        {
            onnxRuntime = Cpu;
            replies[Cpu] = Probe(folder.Path, [Cpu])[Cpu];
        }

        Reply? unreachable = replies.Values.FirstOrDefault(reply => reply.Answer == Answer.Unreachable);
        if (unreachable is not null)
            House.Say($"the NuGet sources did not answer ({unreachable.Error}); going on without what they may have. "
                + "They are asked again at the next build");

        bool Has(Question question) => replies[question].Answer == Answer.Found;
        var properties = new (string Name, string Value)[]
        {
            ("OnnxRuntimeSource", Has(onnxRuntime) ? "nuget" : "npm"),
            ("OnnxRuntimePackage", Has(onnxRuntime) ? onnxRuntime.Packages[0] : ""),
            ("OnnxRuntimeVersion", replies[onnxRuntime].Version),
            ("IlgpuSource", Has(Ilgpu) ? "nuget" : "none"),
            ("IlgpuVersion", replies[Ilgpu].Version),
            ("TokenizersSource", Has(Tokenizers) ? "nuget" : "none"),
            ("TokenizersVersion", replies[Tokenizers].Version),
            ("AheadOfTimeCompiler", Has(Compiler) ? CompilerPath(replies[Compiler]) : ""),
            // An answer that a dead network gave is not kept for longer than this build.
            ("ResolutionFingerprint", unreachable is null ? fingerprint : "provisional"),
        };
        var props = new XDocument(new XElement("Project",
            new XComment(" Written by the bootstrap: which packages the configured sources have. To ask again, delete this file. "),
            new XElement("PropertyGroup", properties.Select(p => new XElement(p.Name, p.Value)))));
        House.WriteAtomically(house.ResolvedProps, props + "\n");
        House.Say($"ONNX Runtime: {(Has(onnxRuntime) ? $"{onnxRuntime.Packages[0]} {replies[onnxRuntime].Version}" : "npm")}; "
            + $"ILGPU: {Named(replies[Ilgpu])}; Microsoft.ML.Tokenizers: {Named(replies[Tokenizers])}; "
            + $"ahead-of-time compiler: {Named(replies[Compiler])}");
    }

    private static string Named(Reply reply) => reply.Answer == Answer.Found ? reply.Version : "none";

    private static string CompilerPath(Reply reply) =>
        Path.Combine(reply.Folder, Compiler.Packages[0], reply.Version, "tools", House.IsWindows ? "crossgen2.exe" : "crossgen2");

    /// <summary>Restores one tiny project per question, all in one go: a source that lacks a package says so at once.</summary>
    private static Dictionary<Question, Reply> Probe(string folder, Question[] questions)
    {
        // The probes stand inside the repository, so that a NuGet.config of it counts; its build rules must not.
        foreach (string name in (string[])["Directory.Build.props", "Directory.Build.targets", "Directory.Packages.props"])
            File.WriteAllText(Path.Combine(folder, name), "<Project />");
        var solution = new XElement("Solution");
        foreach (Question question in questions)
        {
            string project = Path.Combine(folder, question.Name, question.Name + ".csproj");
            Directory.CreateDirectory(Path.GetDirectoryName(project)!); // not null: the path was just joined from a folder
            solution.Add(new XElement("Project", new XAttribute("Path", project)));
            File.WriteAllText(project, new XElement("Project", new XAttribute("Sdk", "Microsoft.NET.Sdk"),
                new XElement("PropertyGroup", new XElement("TargetFramework", "net10.0")),
                new XElement("ItemGroup", question.Packages.Select(package => new XElement(
                    question.Download ? "PackageDownload" : "PackageReference",
                    new XAttribute("Include", package), new XAttribute("Version", question.Range))))).ToString());
        }
        File.WriteAllText(Path.Combine(folder, "probe.slnx"), solution.ToString());

        // A found ONNX Runtime with its CUDA provider is a download of several hundred megabytes; a "no" takes a second.
        ToolResult result = Tool.Dotnet(["restore", "probe.slnx", "-v", "q", "-nologo", "-tl:off"], folder, TimeSpan.FromMinutes(10),
            ("NUGET_ENHANCED_MAX_NETWORK_TRY_COUNT", "2"));
        if (result.TimedOut)
            throw new BootstrapException("asking the NuGet sources took longer than 10 minutes and was stopped. Check the network and the sources (dotnet nuget list source), then try again.");
        return questions.ToDictionary(question => question, question => ReadReply(folder, question, result));
    }

    private static Reply ReadReply(string folder, Question question, ToolResult result)
    {
        string[] errors = [.. result.Lines.Where(line => line.Contains(question.Name + ".csproj", StringComparison.Ordinal) && ErrorCode().IsMatch(line)).Distinct()];
        string assets = Path.Combine(folder, question.Name, "obj", "project.assets.json");
        if (errors.Length == 0 && result.ExitCode != 0 && !File.Exists(assets))
            errors = [.. result.Lines.Where(line => ErrorCode().IsMatch(line)).Take(1).DefaultIfEmpty($"dotnet restore ended with exit code {result.ExitCode}")];
        if (errors.Length > 0)
        {
            // NU1101: no such package; NU1102: not this version. All else is a source that could not be asked.
            string? other = errors.FirstOrDefault(line => ErrorCode().Match(line).Groups[1].Value is not ("NU1101" or "NU1102"));
            return other is null
                ? new Reply(Answer.Missing, "", "", "")
                : new Reply(Answer.Unreachable, "", "", ErrorCode().Match(other) is { Success: true } m ? Trailer().Replace(other[m.Groups[1].Index..], "") : other);
        }
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(assets));
        string packageFolder = json.RootElement.GetProperty("packageFolders").EnumerateObject().First().Name;
        string version = question.Download
            ? question.Range.Trim('[', ']')
            : json.RootElement.GetProperty("libraries").EnumerateObject().Select(library => library.Name.Split('/'))
                .First(library => library[0].Equals(question.Packages[0], StringComparison.OrdinalIgnoreCase))[1];
        return new Reply(Answer.Found, version, packageFolder, "");
    }

    /// <summary>What the answer depends on, besides the sources themselves: a new SDK or new pins ask again.</summary>
    private static string Fingerprint(House house)
    {
        Question[] questions = [Gpu, Cpu, Ilgpu, Tokenizers, Compiler];
        string pins = string.Join('\n', questions.Select(q => q.Range + string.Join(',', q.Packages))) + File.ReadAllText(house.NpmLock);
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(pins)))[..16];
    }

    [GeneratedRegex(@"error (NU\d+|MSB\d+|NETSDK\d+)")]
    private static partial Regex ErrorCode();

    /// <summary>The project that MSBuild appends to a message: a temporary file of ours, of no use to anyone.</summary>
    [GeneratedRegex(@"\s*\[[^\]]*\]\s*$")]
    private static partial Regex Trailer();
}
