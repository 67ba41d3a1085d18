using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Tuning.Tests.Prompts;

public sealed class PromptFolderTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-prompts-").FullName;

    [Fact]
    public void PromptsOfAFolderAreFoundByName()
    {
        var prompt = new Prompt([1, 2, 3, 4], 2, 2);
        PeftPrompt.Write(At("b-adapter"), prompt);
        PeftPrompt.Write(At("c-run", "best"), prompt);
        NumpyFile.Write(At("a.npy"), new TensorShape(2, 2), prompt.Values.AsSpan());
        NumpyFile.Write(At(".hidden.npy"), new TensorShape(2, 2), prompt.Values.AsSpan());
        File.WriteAllText(At("notes.txt"), "");
        Directory.CreateDirectory(At("empty"));
        Assert.Equal(["a", "b-adapter", "c-run"], PromptFolder.Entries(_folder).Select(e => e.Name));
        Assert.Equal([At("x"), "a", "b-adapter", "c-run", At("b-adapter")], PromptFolder.Expand([At("x"), _folder, At("b-adapter")]).Select(e => e.Name));
        Assert.All(PromptFolder.Entries(_folder), e => Assert.Equal(2, PromptFile.Read(e.Path).Length));
        Assert.Contains("empty: reading prompts; the folder holds none", Assert.Throws<InvalidDataException>(() => PromptFolder.Expand([At("empty")])).Message, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string At(params string[] parts) => Path.Combine([_folder, .. parts]);
}
