using System.Text.Json.Nodes;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Tuning.Tests.Prompts;

public sealed class PromptFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static float[] Values(int n) => [.. Enumerable.Range(0, n).Select(i => i * 0.5f - 3)];

    private string At(string name) => Path.Combine(_folder, name);

    private void Peft(int rows, int width, string config)
    {
        new SafetensorsWriter().Add("prompt_embeddings", new TensorShape(rows, width), Values(rows * width)).Save(At("adapter_model.safetensors"));
        File.WriteAllText(At("adapter_config.json"), config);
    }

    private string Refusal(string? path = null) => Assert.Throws<InvalidDataException>(() => PromptFile.Read(path ?? _folder)).Message;

    [Fact]
    public void WrittenFolderIsWhatPeftReads()
    {
        var prompt = new Prompt(Values(21), 3, 7);
        PeftPrompt.Write(_folder, prompt, "google/t5-base-lm-adapt", 12, 12);

        Prompt read = PromptFile.Read(_folder);
        Assert.Equal((3, 7), (read.Length, read.DModel));
        Assert.Equal(prompt.Values, read.Values);

        var config = (JsonObject)JsonNode.Parse(File.ReadAllText(At("adapter_config.json")))!;
        string[] keys = [.. config.Select(p => p.Key)];
        Assert.Equal(keys.Order(StringComparer.Ordinal), keys);
        Assert.Equal("PROMPT_TUNING", (string)config["peft_type"]!);
        Assert.Equal("SEQ_2_SEQ_LM", (string)config["task_type"]!);
        Assert.Equal((1, 3, 7), ((int)config["num_transformer_submodules"]!, (int)config["num_virtual_tokens"]!, (int)config["token_dim"]!));
        Assert.DoesNotContain("peft_version", keys);
        using SafetensorsFile file = SafetensorsFile.Open(At("adapter_model.safetensors"));
        Assert.Equal(["prompt_embeddings"], file.Names);
        Assert.Equal("pt", file.Metadata["format"]);
        Assert.StartsWith("---\nbase_model: \"google/t5-base-lm-adapt\"\nlibrary_name: peft\n---\n", File.ReadAllText(At("README.md")), StringComparison.Ordinal);
        Assert.Equal(3, Directory.GetFiles(_folder).Length);
    }

    [Theory]
    [InlineData("""{"peft_type":"PROMPT_TUNING","num_virtual_tokens":3,"num_transformer_submodules":2,"token_dim":5}""")]
    [InlineData("""{"peft_type":"PROMPT_TUNING","num_virtual_tokens":3}""")]
    [InlineData("""{"peft_type":"P_TUNING","num_virtual_tokens":3,"num_transformer_submodules":2,"auto_mapping":null,"future_key":{}}""")]
    public void OfTwoSubmodulesTheFirstIsTaken(string config)
    {
        Peft(6, 5, config);
        Prompt p = PromptFile.Read(_folder);
        Assert.Equal((3, 5), (p.Length, p.DModel));
        Assert.Equal(Values(15), p.Values);
        Assert.Equal(p.Values, PromptFile.Read(At("adapter_config.json")).Values);
    }

    [Theory]
    [InlineData("""{"peft_type":"LORA"}""", "peft_type is 'LORA'")]
    [InlineData("""{"peft_type":"PREFIX_TUNING"}""", "it is no prompt")]
    [InlineData("""{"peft_type":"MULTITASK_PROMPT_TUNING"}""", "num_tasks is missing")]
    [InlineData("""{}""", "peft_type is missing")]
    [InlineData("""{"peft_type":"PROMPT_TUNING","num_virtual_tokens":4}""", "implies [num_virtual_tokens*num_transformer_submodules=4*1")]
    [InlineData("""{"peft_type":"PROMPT_TUNING","num_virtual_tokens":2,"num_transformer_submodules":3}""", "=2*3")]
    [InlineData("""{"peft_type":"PROMPT_TUNING","token_dim":8}""", "token_dim=8")]
    [InlineData("""{"peft_type":"PROMPT_TUNING","num_virtual_tokens":-1}""", "num_virtual_tokens is -1")]
    [InlineData("""{"peft_type":7}""", "peft_type is 7, expected text")]
    [InlineData("""{"peft_type":""", "broken JSON")]
    [InlineData("""{"peft_type":"\ud800"}""", "half a surrogate pair")]
    [InlineData("""{"peft_type":"LORA","peft_type":"PROMPT_TUNING"}""", "broken JSON")]
    [InlineData("""[]""", "no JSON object")]
    public void WrongConfigurationsAreRefused(string config, string reason)
    {
        Peft(6, 5, config);
        Assert.Contains(reason, Refusal(), StringComparison.Ordinal);
    }

    [Fact]
    public void MissingPartsAreNamed()
    {
        Assert.Contains("adapter_config.json is missing", Refusal(), StringComparison.Ordinal);
        File.WriteAllText(At("adapter_config.json"), """{"peft_type":"PROMPT_TUNING"}""");
        Assert.Contains("adapter_model.safetensors (or adapter_model.bin) is missing", Refusal(), StringComparison.Ordinal);
        new SafetensorsWriter().Add("prompt", new TensorShape(2, 2), Values(4)).Save(At("adapter_model.safetensors"));
        Assert.Contains("tensor 'prompt_embeddings' is missing; there is 1 tensor, the nearest name is 'prompt'", Refusal(), StringComparison.Ordinal);
        Assert.Contains("there is no such file or folder", Assert.Throws<FileNotFoundException>(() => PromptFile.Read(At("none"))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("p.npy")]
    [InlineData("encoder.prompt.prompt.prompt")]
    public void NumpyFilesAreKnownByTheirBytes(string name)
    {
        NumpyFile.Write(At(name), new TensorShape(2, 3), Values(6));
        Prompt p = PromptFile.Read(At(name));
        Assert.Equal((2, 3), (p.Length, p.DModel));
        Assert.Equal(Values(6), p.Values);
        // T5X writes f8 where it was told to.
        NumpyFile.Write(At(name), new TensorShape(1, 2, 3), Array.ConvertAll(Values(6), v => (double)v));
        Assert.Equal(Values(6), PromptFile.Read(At(name)).Values);
    }

    [Fact]
    public void SafetensorsWithOneTensorIsAPrompt()
    {
        new SafetensorsWriter().Add("anything", new TensorShape(2, 3), Values(6)).Save(At("p.safetensors"));
        Assert.Equal(2, PromptFile.Read(At("p.safetensors")).Length);
        new SafetensorsWriter().Add("a", new TensorShape(2, 3), Values(6)).Add("b", new TensorShape(2, 3), Values(6)).Save(At("p.safetensors"));
        Assert.Contains("found 2 tensors (a, b)", Refusal(At("p.safetensors")), StringComparison.Ordinal);
    }

    [Fact]
    public void ValuesThatAreNoPromptAreRefused()
    {
        NumpyFile.Write(At("p.npy"), new TensorShape(6), Values(6));
        Assert.Contains("found shape [6], expected [virtual tokens, d_model]", Refusal(At("p.npy")), StringComparison.Ordinal);
        float[] bad = Values(6);
        bad[4] = float.NaN;
        NumpyFile.Write(At("p.npy"), new TensorShape(2, 3), bad);
        Assert.Contains("row 1 has a NaN or infinity", Refusal(At("p.npy")), StringComparison.Ordinal);
        NumpyFile.Write(At("p.npy"), new TensorShape(0, 3), Values(0));
        Assert.Contains("found shape [0, 3]", Refusal(At("p.npy")), StringComparison.Ordinal);
        Assert.Contains("the model has d_model=8", Assert.Throws<InvalidDataException>(() => new Prompt(Values(6), 2, 3).RequireWidth(8, "p.npy")).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new Prompt(Values(6), 2, 4));
    }
}
