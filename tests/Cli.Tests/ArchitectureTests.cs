// Enforces the direction of references between the rooms of the house, by reading the project files and the sources' using lines.
// Deliberately reads text, not assemblies: an unused reference is compiled away, but it is the first step in the wrong direction.
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Xunit;

namespace IptNative.Cli.Tests;

public sealed partial class ArchitectureTests
{
    private static readonly string Root = FindRoot();

    /// <summary>Which of our projects each project may refer to. A project that is not listed here may not exist.</summary>
    private static readonly Dictionary<string, string[]> AllowedReferences = new()
    {
        ["src/Kernels"] = [],
        ["src/Tasks"] = [],
        ["src/Model"] = ["src/Kernels", "eng/onnxruntime"],
        ["src/Optimizers"] = ["src/Kernels"],
        ["src/Tuning"] = ["src/Model", "src/Optimizers", "src/Tasks", "src/Kernels"],
        ["src/Server"] = ["src/Tuning", "src/Model"],
        ["src/Cli"] = ["src/Server", "src/Tuning", "src/Model", "src/Optimizers", "src/Tasks", "src/Kernels"],
        ["tools/export_onnx"] = ["src/Cli"],
    };

    /// <summary>Packages that only the named places may refer to or use.</summary>
    private static readonly (string Package, string Namespace, string[] Places)[] OwnedPackages =
    [
        ("ILGPU", "ILGPU", ["src/Kernels"]),
        ("Microsoft.ML.OnnxRuntime", "Microsoft.ML.OnnxRuntime", ["src/Model"]),
        ("Microsoft.ML.Tokenizers", "Microsoft.ML.Tokenizers", ["src/Model"]),
        ("System.CommandLine", "System.CommandLine", ["src/Cli", "tools"]),
        ("Microsoft.AspNetCore", "Microsoft.AspNetCore", ["src/Server"]),
    ];

    public static TheoryData<string> Projects => [.. ProjectFiles().Select(Folder)];

    [Theory]
    [MemberData(nameof(Projects))]
    public void ReferencesPointOneWay(string project)
    {
        Assert.True(AllowedReferences.TryGetValue(project, out string[]? allowed), $"{project} is a new room: say in ArchitectureTests what it may refer to.");
        string[] found = [.. ReferencesOf(project)];
        Assert.All(found, reference => Assert.True(allowed.Contains(reference), $"{project} refers to {reference}; it may refer to: {string.Join(", ", allowed)}."));
    }

    [Fact]
    public void EveryRoomIsThere() =>
        Assert.Equal(AllowedReferences.Keys.Order(StringComparer.Ordinal), ProjectFiles().Select(Folder).Order(StringComparer.Ordinal));

    [Fact]
    public void PackagesAreReferredToByTheirOwnersOnly()
    {
        foreach (string file in ProjectFiles())
        {
            string project = Folder(file);
            string[] packages = [.. WithImports(file).SelectMany(document => document.Descendants("PackageReference")).Select(Include)];
            foreach ((string package, _, string[] places) in OwnedPackages)
            {
                Assert.True(places.Any(place => project.StartsWith(place, StringComparison.Ordinal)) || !packages.Any(name => name.StartsWith(package, StringComparison.OrdinalIgnoreCase)),
                    $"{project} refers to the package {package}; only {string.Join(" and ", places)} may.");
            }
        }
    }

    [Fact]
    public void NamespacesAreUsedByTheirOwnersOnly()
    {
        List<string> wrong = [];
        foreach ((string file, string text) in Sources())
        {
            foreach ((_, string name, string[] places) in OwnedPackages)
            {
                if (!places.Any(place => file.StartsWith(place + "/", StringComparison.Ordinal)) && Regex.IsMatch(text, $@"\b(using\s+(static\s+)?(\w+\s*=\s*)?|global::){Regex.Escape(name)}\b"))
                    wrong.Add($"{file} uses {name}, which belongs to {string.Join(" and ", places)}");
            }
        }
        Assert.Empty(wrong);
    }

    [Fact]
    public void OnlyCliAndToolsSpeakToTheConsole() =>
        Assert.Empty(Sources()
            .Where(source => !source.File.StartsWith("src/Cli/", StringComparison.Ordinal) && !source.File.StartsWith("tools/", StringComparison.Ordinal))
            .Where(source => ConsoleUse().IsMatch(source.Text))
            .Select(source => source.File + " uses the console; return the text to Cli instead"));

    [Theory]
    [InlineData("Console.WriteLine(x);", true)]
    [InlineData("System.Console.Error.Write(x);", true)]
    [InlineData("using static System.Console;", true)]
    [InlineData("// for the Console. Not a use.", false)]
    [InlineData("var myConsole = MyConsole.Get();", false)]
    public void ConsoleUseIsRecognised(string line, bool expected) => Assert.Equal(expected, ConsoleUse().IsMatch(WithoutComments(line)));

    [Fact]
    public void PackageLocksHoldNoAddress()
    {
        string[] locks = [.. Directory.EnumerateFiles(Root, "packages.npm-none-none.lock.json", SearchOption.AllDirectories), Path.Combine(Root, "eng", "npm", "package-lock.json")];
        Assert.True(locks.Length > 10, $"only {locks.Length} lock files were found under {Root}");
        Assert.All(locks, path => Assert.DoesNotMatch(@"https?://|""resolved"":\s*""[^""]*/", File.ReadAllText(path)));
    }

    private static IEnumerable<string> ProjectFiles() =>
        ((string[])["src", "tools"]).SelectMany(folder => Directory.EnumerateFiles(Path.Combine(Root, folder), "*.csproj", SearchOption.AllDirectories));

    private static string Folder(string file) => Relative(Path.GetDirectoryName(file) ?? Root);

    private static string Relative(string path) => Path.GetRelativePath(Root, path).Replace('\\', '/');

    private static IEnumerable<string> ReferencesOf(string project)
    {
        string file = ProjectFiles().Single(path => Folder(path) == project);
        return WithImports(file).SelectMany(document => document.Descendants("ProjectReference")).Select(Include)
            .Select(include => Folder(Path.GetFullPath(Expand(include), Path.GetDirectoryName(file) ?? Root)));
    }

    private static string Include(XElement item) => item.Attribute("Include")?.Value ?? "";

    private static string Expand(string path) => path.Replace("$(IptNativeRoot)", Root + "/", StringComparison.Ordinal);

    /// <summary>The project file and what it imports itself (eng/OnnxRuntime.props).</summary>
    private static IEnumerable<XDocument> WithImports(string file)
    {
        XDocument document = XDocument.Load(file);
        yield return document;
        foreach (XElement import in document.Descendants("Import"))
            yield return XDocument.Load(Path.GetFullPath(Expand(import.Attribute("Project")?.Value ?? ""), Path.GetDirectoryName(file) ?? Root));
    }

    private static IEnumerable<(string File, string Text)> Sources() =>
        ((string[])["src", "tools"]).SelectMany(folder => Directory.EnumerateFiles(Path.Combine(Root, folder), "*.cs", SearchOption.AllDirectories))
        .Select(path => (Relative(path), WithoutComments(File.ReadAllText(path))));

    /// <summary>Drops line comments; a string that holds two slashes loses its end, which hides nothing that is looked for.</summary>
    private static string WithoutComments(string text) => LineComment().Replace(text, "");

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "IptNative.sln")))
                return folder.FullName;
        }
        throw new InvalidOperationException($"no IptNative.sln above {AppContext.BaseDirectory}");
    }

    [GeneratedRegex(@"(?<![\w.])(System\.)?Console\s*\.|using\s+static\s+System\.Console\b")]
    private static partial Regex ConsoleUse();

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex LineComment();
}
