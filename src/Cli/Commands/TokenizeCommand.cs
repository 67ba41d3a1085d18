// `iptnative tokenize`: what a model's tokenizer makes of a text, one JSON object a line.
using System.CommandLine;
using IptNative.Cli.Terminal;
using IptNative.Model.Checkpoints;
using IptNative.Model.Tokenizer;

namespace IptNative.Cli.Commands;

internal static class TokenizeCommand
{
    public static Command Create()
    {
        var model = new Option<string?>("--model") { Description = "Checkpoint or package whose tokenizer to use (its sentinels <extra_id_i> are recognised)." };
        var vocabulary = new Option<string?>("--vocabulary") { Description = "A spiece.model or tokenizer.json by itself, without a model's sentinels." };
        var eos = new Option<bool>("--eos") { Description = "End each text's ids with </s>, as the model's input has it." };
        var inputs = new Inputs("text");
        var command = new Command("tokenize", "Show the ids, the pieces and the text decoded from them, one JSON object per input.") { model, vocabulary, eos };
        inputs.AddTo(command);
        command.WithExamples(
            "iptnative tokenize --model models/t5-gym-tiny --input \"what is my balance\"",
            "iptnative tokenize --vocabulary spiece.model --jsonl --input-file texts.jsonl");
        command.SetRun((parsed, cancel) =>
        {
            T5Tokenizer tokenizer = (parsed.GetValue(model), parsed.GetValue(vocabulary)) switch
            {
                ({ } folder, null) => T5Tokenizer.Load(Checkpoint.FolderOf(folder)),
                (null, { } file) => T5Tokenizer.Load(file),
                _ => throw new UsageException("tokenize: give exactly one of --model DIR and --vocabulary FILE."),
            };
            bool addEos = parsed.GetValue(eos);
            IEnumerable<string> texts = inputs.Read(parsed);
            using var progress = new ProgressLine("tokenizing");
            using TextWriter output = StandardOutput.Open();
            long number = 0;
            foreach (string text in texts)
            {
                cancel.ThrowIfCancellationRequested();
                progress.Report(++number, 0, "texts");
                int[] ids = tokenizer.Encode(text, addEos);
                JsonOutput.WriteObject(output, json =>
                {
                    json.WriteIds("ids", ids);
                    json.WriteStartArray("pieces");
                    foreach (string piece in tokenizer.EncodeToPieces(text))
                        json.WriteStringValue(piece);
                    if (addEos)
                        json.WriteStringValue(tokenizer.IdToPiece(tokenizer.EosId));
                    json.WriteEndArray();
                    json.WriteString("decoded", tokenizer.Decode(ids));
                });
            }
            return ExitCode.Done;
        });
        return command;
    }
}
